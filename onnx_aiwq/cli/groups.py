"""Commands share groups of options: a parameter that is a dataclass stands for one option per field.

    @grouped
    def analyze(model: Model, grid: Grid, form: Format = "table") -> None: ...

has the options of `Grid` on the command line as if each were a parameter, and gets them as one value. The help of a
`SectionedCommand` lists them under the first line of the docstring of `Grid`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand

Result = TypeVar("Result")
_OTHERS = "Options"


def grouped(function: Callable[..., Result]) -> Callable[..., Result]:
    """A command of the command line, with every dataclass among its parameters spelled out field by field.

    Raises:
        TypeError: if two groups of a command have an option of the same name.
    """
    groups: dict[str, type[Any]] = {}
    headings: dict[str, str] = {}
    parameters: list[inspect.Parameter] = []
    # Not by get_type_hints: before Python 3.11 it hides what is annotated in an Optional where the default is None.
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        kind = parameter.annotation
        if isinstance(kind, type) and is_dataclass(kind):
            groups[parameter.name] = kind
            parameters += _parameters_of(kind)
            headings |= dict.fromkeys((field.name for field in fields(kind)), _heading(kind))
        else:
            parameters.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
    names = [parameter.name for parameter in parameters]
    if len(names) != len(set(names)):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise TypeError(f"{function.__name__}: options in two groups: {', '.join(twice)}")

    @functools.wraps(function)
    def command(**given: Any) -> Result:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        return function(**given)

    command.headings = headings  # type: ignore[attr-defined]
    # Typer reads both.
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _parameters_of(kind: type[Any]) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=_default(field), annotation=hints[field.name]
        )


def _default(field: Field[Any]) -> Any:
    return inspect.Parameter.empty if field.default is MISSING else field.default


def _heading(kind: type[Any]) -> str:
    return (inspect.getdoc(kind) or _OTHERS).splitlines()[0].rstrip(".")


class SectionedCommand(TyperCommand):
    """A command whose help has a section for each group of options; what belongs to none comes last."""

    def format_options(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """Write the sections: Typer's formatter is of a library that it keeps to itself."""
        headings: dict[str, str] = getattr(self.callback, "headings", {})
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        others: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if parameter.param_type_name == "argument":
                sections["Arguments"].append(record)
            elif parameter.name in headings:
                sections.setdefault(headings[parameter.name], []).append(record)
            else:
                others.append(record)
        for heading, records in {**sections, _OTHERS: others}.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
