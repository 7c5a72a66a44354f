"""Options that commands share, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_aiwq.errors import PolicyError, ShapeError, suggestion

FORMATS = ("table", "json", "markdown", "csv")
CONVENTIONS = ("default", "paper")

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="ONNX file; weights may be absent.", show_default=False)]
Bind = Annotated[
    list[str] | None, typer.Option("--bind", metavar="NAME=INT", help="Value of a symbolic dimension; repeatable.")
]
Shape = Annotated[
    list[str] | None, typer.Option("--shape", metavar="INPUT=1,3,224,224", help="Shape of an input; repeatable.")
]
Hardware = Annotated[
    str | None, typer.Option("--hardware", metavar="NAME|FILE", help="Hardware profile; `aiwq hardware` lists them.")
]
Region = Annotated[
    str | None, typer.Option("--region", metavar="CODE", help="Grid or cloud region; `aiwq regions` lists them.")
]
Intensity = Annotated[
    float | None, typer.Option("--carbon-intensity", metavar="G_PER_KWH", help="gCO2e/kWh instead of a region.")
]
Pue = Annotated[float | None, typer.Option("--pue", metavar="X", help="Power usage effectiveness, at least 1.")]
Inferences = Annotated[int, typer.Option("--inferences", metavar="N", help="Inferences that eCAL and CO2 are for.")]
ConventionOption = Annotated[
    str, typer.Option("--convention", metavar="|".join(CONVENTIONS), help="`paper` counts no comparisons.")
]
Format = Annotated[str, typer.Option("--format", metavar="|".join(FORMATS), help="Form of the result.")]
Output = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", help="Write the result to a file instead of stdout.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Fail on unbound dimensions and unsupported operators instead of naming them.")
]


def choose(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise `PolicyError` unless the value of an option is one of those allowed."""
    if value not in allowed:
        raise PolicyError(
            f"{option} {value!r}: expected one of {', '.join(allowed)};{suggestion(value, allowed)}".rstrip(";")
        )


def parse_bindings(given: list[str] | None) -> dict[str, int]:
    """The values of `--bind`, by dimension."""
    bindings: dict[str, int] = {}
    for text in given or []:
        name, separator, value = text.rpartition("=")
        if not separator or not name or not value.strip().isdecimal():
            raise ShapeError(
                f"--bind {text!r}: expected NAME=INT with a non-negative integer, for example --bind batch=8"
            )
        if bindings.get(name, int(value)) != int(value):
            raise ShapeError(f"--bind {name}: bound to {bindings[name]} and to {value}; give it once")
        bindings[name] = int(value)
    return bindings


def parse_shapes(given: list[str] | None) -> dict[str, tuple[int, ...]]:
    """The values of `--shape`, by input."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in given or []:
        name, separator, value = text.rpartition("=")
        dims = [dim.strip() for dim in value.split(",")] if value.strip() else []
        if not separator or not name or not all(dim.isdecimal() for dim in dims):
            raise ShapeError(f"--shape {text!r}: expected INPUT=D1,D2,..., for example --shape input=1,3,224,224")
        if name in shapes:
            raise ShapeError(f"--shape {name}: given twice; give each input once")
        shapes[name] = tuple(int(dim) for dim in dims)
    return shapes
