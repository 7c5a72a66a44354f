"""The JSON Schemas that the package publishes: what is valid under one, and what of a valid document it leaves open."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator


@functools.cache
def validator_of(name: str) -> Draft202012Validator:
    """The validator of a published schema, as ``report-1``; the schema itself is one of JSON Schema 2020-12."""
    text = (resources.files("onnx_aiwq") / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    assert list(Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema)) == []
    family, _, major = name.rpartition("-")
    assert schema["$id"] == f"onnx_aiwq.{family}/{major}"
    return Draft202012Validator(schema)


def problems(name: str, document: Any) -> list[str]:
    """What a schema has against a document, one line each."""
    return [f"{error.json_path}: {error.message}" for error in validator_of(name).iter_errors(document)]


def left_open(name: str, document: dict[str, Any]) -> set[str]:
    """Places of a valid document that may be absent (``-place``) or hold anything (``?place``).

    Every key of every object is taken away once, and once given an object or array that nobody wrote; of an array the
    first element stands for all. A place is written as ``networks[].error``.
    """
    validator = validator_of(name)
    found = set()
    for place, owner, key in _places(document, ""):
        value = owner[key]
        wrong: Any = {"no": 1} if isinstance(value, list) else ["no", 1]
        del owner[key]
        if validator.is_valid(document):
            found.add(f"-{place}")
        owner[key] = wrong
        if validator.is_valid(document):
            found.add(f"?{place}")
        owner[key] = value
    assert validator.is_valid(document)
    return found


def _places(at: Any, prefix: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    if isinstance(at, list) and at:
        yield from _places(at[0], f"{prefix}[]")
    elif isinstance(at, dict):
        for key in list(at):
            place = f"{prefix}.{key}" if prefix else key
            yield place, at, key
            yield from _places(at[key], place)
