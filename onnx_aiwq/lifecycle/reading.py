"""Reading a life cycle file: what is wrong is told in one line, with the key, its line and what may stand there."""

from __future__ import annotations

import importlib
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from onnx_aiwq.errors import PolicyError, suggestion
from onnx_aiwq.lifecycle.document import LifeCycle

MAX_BYTES = 1_000_000
_LISTED = 4
# The standard library has it from Python 3.11; the package depends on the same code by another name before that.
_toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


def example_text() -> str:
    """The commented example: the case study of the paper."""
    return (resources.files("onnx_aiwq") / "data" / "lifecycle_example.toml").read_text(encoding="utf-8")


def read_lifecycle(path: Path) -> LifeCycle:
    """Read and validate a life cycle file.

    Raises:
        PolicyError: if the file cannot be read, is not TOML, or does not validate.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise PolicyError(
            f"{path}: cannot read the life cycle: {reason}; `aiwq lifecycle --example` prints one to start from"
        ) from None
    if len(data) > MAX_BYTES:
        raise PolicyError(f"{path}: more than {MAX_BYTES} bytes are no life cycle file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PolicyError(f"{path}: line {line}: not UTF-8 text; a life cycle file is TOML") from None
    return parse_lifecycle(text, str(path))


def parse_lifecycle(text: str, name: str = "life cycle") -> LifeCycle:
    """Validate the text of a life cycle file.

    Raises:
        PolicyError: if it is not TOML or does not validate.
    """
    try:
        document = _toml.loads(text)
    except ValueError as error:  # TOMLDecodeError, and integers too long to read
        raise PolicyError(f"{name}: not TOML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise PolicyError(f"{name}: not TOML that anyone writes: nested too deeply") from None
    try:
        return LifeCycle.model_validate(document)
    except ValidationError as error:
        raise PolicyError(f"{name}: {_one_line(error, text)}") from None


def _one_line(error: ValidationError, text: str) -> str:
    """The first problems, in the order of the file."""
    places = _places(text)
    problems: dict[tuple[int, str], None] = {}
    for each in error.errors(include_url=False):
        path = _keys(each["loc"])
        line = places.get(path) or places.get(path[:-1]) or 0
        where = f"line {line}: " if line else ""
        problems[(line, f"{where}{_dotted(path)}: {_explain(each, path)}")] = None
    lines = [text for _, text in sorted(problems)]
    more = f"; and {len(lines) - _LISTED} more" if len(lines) > _LISTED else ""
    return "; ".join(lines[:_LISTED]) + more


def _keys(location: Sequence[int | str]) -> tuple[int | str, ...]:
    """The keys of the file in a location of pydantic, without the names that it gives to the members of a union."""
    found: list[int | str] = []
    model: Any = LifeCycle
    for step in location:
        if isinstance(step, int):
            found.append(step)
            continue
        fields = getattr(model, "model_fields", {})
        if model is None and found and found[-1] == "stack":
            continue
        found.append(step)
        model = _model_of(fields[step].annotation) if step in fields else None
    return tuple(found)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, through optional types and tuples; None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, tuple, list, typing.Annotated):
        for argument in typing.get_args(annotation):
            found = _model_of(argument)
            if found is not None:
                return found
    return None


def _fields_at(path: Sequence[int | str]) -> list[str]:
    model: type[BaseModel] | None = LifeCycle
    for step in path:
        if isinstance(step, str) and model is not None:
            field = model.model_fields.get(step)
            model = None if field is None else _model_of(field.annotation)
    return [] if model is None else list(model.model_fields)


def _dotted(path: Sequence[int | str]) -> str:
    """``[hops.1] failure_rate``: the table, and the key in it."""
    *table, key = path or ("",)
    steps = [str(step + 1) if isinstance(step, int) else step for step in table]
    shown = str(key + 1) if isinstance(key, int) else key
    return f"[{'.'.join(steps)}] {shown}" if steps else shown


def _explain(problem: Mapping[str, Any], path: Sequence[int | str]) -> str:
    kind, context, found = problem["type"], problem.get("ctx", {}), _shown(problem.get("input"))
    if kind == "extra_forbidden":
        allowed = _fields_at(path[:-1])
        near = suggestion(str(path[-1]), allowed)
        return f"unknown key;{near} expected one of {', '.join(allowed)}"
    if kind == "missing":
        return "missing; the file cannot do without it"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']+)'", context["expected"])
        return (
            f"found {found}; expected one of {', '.join(allowed)};{suggestion(str(problem['input']), allowed)}".rstrip(
                ";"
            )
        )
    if kind == "value_error":
        return str(context["error"])
    if kind in ("model_type", "model_attributes_type"):
        return f"expected a table, found {found}"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{message.replace('input should be', 'expected').replace('valid ', '')}, found {found}"


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_HEADER = re.compile(r"^\s*\[(\[?)\s*([^\[\]]+?)\s*\]?\]\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")


def _places(text: str) -> dict[tuple[int | str, ...], int]:
    """The line of every table and key, as far as lines show them; keys of inline tables stand in the line of theirs."""
    found: dict[tuple[int | str, ...], int] = {}
    table: tuple[int | str, ...] = ()
    seen: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header:
            names = _split(header.group(2))
            if header.group(1):
                index = seen[names] = seen.get(names, -1) + 1
                table = (*names, index)
            else:
                table = names
            found.setdefault(table, number)
            found.setdefault(names[:1], number)
        elif key:
            found.setdefault((*table, *_split(key.group(1))), number)
    return found


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
