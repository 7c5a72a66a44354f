"""The command `aiwq`: stdout carries the result and nothing else, exit codes are 0, 1 and 2."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from onnx_aiwq.errors import AiwqError, PolicyError, ShapeError, suggestion

app = typer.Typer(
    name="aiwq",
    help="What an ONNX model costs before it is deployed: operations, energy, eCAL and CO2.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PROGRESS_AFTER_S = 1.0
_FORMATS = ("table", "json", "markdown", "csv")
_CONVENTIONS = ("default", "paper")
_QUIET_WARNINGS = 8  # lines on stderr; the JSON report holds all

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
    str, typer.Option("--convention", metavar="|".join(_CONVENTIONS), help="`paper` counts no comparisons.")
]
Format = Annotated[str, typer.Option("--format", metavar="|".join(_FORMATS), help="Form of the result.")]
Output = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", help="Write the result to a file instead of stdout.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Fail on unbound dimensions and unsupported operators instead of naming them.")
]


def main() -> NoReturn:
    """Run the command line; every `AiwqError` is one line on stderr and exit code 2, never a traceback."""
    try:
        app(standalone_mode=False)
    except AiwqError as error:
        _fail(str(error))
    except Exception as error:
        _fail_unexpected(error)
    except KeyboardInterrupt:
        _fail("interrupted")
    sys.exit(0)


def _fail(message: str) -> NoReturn:
    if os.environ.get("AIWQ_DEBUG"):
        raise
    print(f"aiwq: {_one_line(message)}", file=sys.stderr)
    sys.exit(2)


def _fail_unexpected(error: Exception) -> NoReturn:
    import click

    if isinstance(error, click.exceptions.Exit):
        sys.exit(error.exit_code)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print(error.format_message(), file=sys.stderr)
        sys.exit(2)
    if isinstance(error, click.ClickException):
        _fail(f"{error.format_message().rstrip('.')}; `aiwq --help` lists commands and options")
    if isinstance(error, BrokenPipeError):
        # The reader of the pipe has gone (head, less): that is its decision, not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    _fail(
        f"unexpected {type(error).__name__}: {error}; this is a bug of aiwq: run again with AIWQ_DEBUG=1 and report "
        "the traceback"
    )


def _one_line(message: str) -> str:
    """The message without line breaks and control characters that a model's names may hold."""
    from onnx_aiwq.render.summary import plain

    return plain(" ".join(message.split()))


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        from onnx_aiwq import __version__

        print(f"aiwq {__version__}")
        raise typer.Exit


@app.command()
def analyze(
    model: Model,
    bind: Bind = None,
    shape: Shape = None,
    hardware: Hardware = None,
    region: Region = None,
    carbon_intensity: Intensity = None,
    pue: Pue = None,
    inferences: Inferences = 1,
    convention: ConventionOption = "default",
    measured_seconds: Annotated[
        float | None, typer.Option("--measured-seconds", metavar="S", help="Seconds of a real run, for AW_act.")
    ] = None,
    human_hours: Annotated[
        float | None, typer.Option("--human-hours", metavar="H", help="Hours of the same task done by people.")
    ] = None,
    human_cost: Annotated[
        float | None, typer.Option("--human-cost-per-hour", metavar="X", help="Cost of an hour of human work.")
    ] = None,
    strict: Strict = False,
    form: Format = "table",
    output: Output = None,
) -> None:
    """Count one model and estimate its energy, eCAL, workload and CO2."""
    from onnx_aiwq import report as reports
    from onnx_aiwq.metrics.workload import HumanTask
    from onnx_aiwq.render import render

    _choose("--format", form, _FORMATS)
    _choose("--convention", convention, _CONVENTIONS)
    if human_cost is not None and human_hours is None:
        raise PolicyError("--human-cost-per-hour needs --human-hours: the cost is per hour of that work")
    with _progress() as progress:
        report = reports.analyze(
            model,
            bind=_bindings(bind or []),
            shapes=_shapes(shape or []),
            hardware=hardware,
            region=region,
            carbon_intensity_g_per_kwh=carbon_intensity,
            pue=pue,
            inferences=inferences,
            convention="paper" if convention == "paper" else "default",
            measured_seconds=measured_seconds,
            human=None if human_hours is None else HumanTask(human_hours, cost_per_hour=human_cost),
            strict=strict,
            progress=progress,
        )
        progress("writing the report")
        text = render(report.to_dict(), form, width=_width(), colour=output is None and _colour())
    _warn(report.warnings)
    _write(text, output)


@app.command()
def hardware(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Profile to show; all without it.")] = None,
    form: Format = "table",
    output: Output = None,
) -> None:
    """List hardware profiles, or show one with its provenance."""
    from onnx_aiwq.profiles import list_profiles, load_profile
    from onnx_aiwq.render.listing import profile_rows, profile_text, write_rows

    _choose("--format", form, _FORMATS)
    if name is None:
        rows = profile_rows(list_profiles())
        _write(write_rows(("id", "name", "kind", "source", "provider", "origin"), rows, form, _width()), output)
    else:
        profile = load_profile(name)
        _write(profile.to_json() if form == "json" else profile_text(profile, form, _width()), output)


@app.command()
def regions(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Region to show; all without it.")] = None,
    form: Format = "table",
    output: Output = None,
) -> None:
    """List grid and cloud regions with their carbon intensity, or show one with year, vintage and source."""
    from onnx_aiwq.metrics.carbon import find_region, list_regions
    from onnx_aiwq.render.listing import region_rows, region_text, write_rows

    _choose("--format", form, _FORMATS)
    if name is None:
        columns = ("code", "name", "gCO2e/kWh", "year", "vintage", "PUE")
        _write(write_rows(columns, region_rows(list_regions()), form, _width()), output)
    else:
        _write(region_text(find_region(name), form, _width()), output)


@app.command()
def rules(
    op: Annotated[str | None, typer.Argument(metavar="[OP]", help="Operator to explain; all without it.")] = None,
    form: Format = "table",
    output: Output = None,
) -> None:
    """List cost rules, or explain one."""
    from onnx_aiwq.operations.registry import all_rules
    from onnx_aiwq.render.listing import rule_rows, rule_text, write_rows

    _choose("--format", form, _FORMATS)
    known = all_rules()
    if op is None:
        _write(write_rows(("operator", "domain", "since", "family", "cost"), rule_rows(known), form, _width()), output)
        return
    found = [
        rule for rule in known if op.casefold() in (rule.op_type.casefold(), f"{rule.domain}.{rule.op_type}".casefold())
    ]
    if not found:
        near = suggestion(op, {rule.op_type for rule in known})
        raise PolicyError(f"no cost rule for {op!r};{near} `aiwq rules` lists all")
    _write(rule_text(found, form, _width()), output)


def _choose(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise PolicyError(
            f"{option} {value!r}: expected one of {', '.join(allowed)};{suggestion(value, allowed)}".rstrip(";")
        )


def _bindings(given: list[str]) -> dict[str, int]:
    bindings: dict[str, int] = {}
    for text in given:
        name, separator, value = text.rpartition("=")
        if not separator or not name or not value.strip().isdecimal():
            raise ShapeError(
                f"--bind {text!r}: expected NAME=INT with a non-negative integer, for example --bind batch=8"
            )
        if bindings.get(name, int(value)) != int(value):
            raise ShapeError(f"--bind {name}: bound to {bindings[name]} and to {value}; give it once")
        bindings[name] = int(value)
    return bindings


def _shapes(given: list[str]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for text in given:
        name, separator, value = text.rpartition("=")
        dims = [dim.strip() for dim in value.split(",")] if value.strip() else []
        if not separator or not name or not all(dim.isdecimal() for dim in dims):
            raise ShapeError(f"--shape {text!r}: expected INPUT=D1,D2,..., for example --shape input=1,3,224,224")
        if name in shapes:
            raise ShapeError(f"--shape {name}: given twice; give each input once")
        shapes[name] = tuple(int(dim) for dim in dims)
    return shapes


@contextlib.contextmanager
def _progress() -> Iterator[Any]:
    """Tell on stderr what is going on, for work that takes over a second; a shorter run prints nothing."""
    started = time.monotonic()
    stage = ""
    timer: threading.Timer | None = None

    def show() -> None:
        print(f"aiwq: {stage} ...", file=sys.stderr, flush=True)

    def begin(name: str) -> None:
        nonlocal stage, timer
        stage = name
        if time.monotonic() - started > _PROGRESS_AFTER_S:
            show()
        elif timer is None:
            timer = threading.Timer(_PROGRESS_AFTER_S, show)
            timer.daemon = True
            timer.start()

    try:
        yield begin
    finally:
        if timer is not None:
            timer.cancel()


def _warn(lines: tuple[str, ...]) -> None:
    for line in lines[:_QUIET_WARNINGS]:
        print(f"aiwq: {_one_line(line)}", file=sys.stderr)
    if len(lines) > _QUIET_WARNINGS:
        print(f"aiwq: {len(lines) - _QUIET_WARNINGS} more in `warnings` of --format json", file=sys.stderr)


def _colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _width() -> int | None:
    """Columns of the terminal; wide enough for every line where stdout is no terminal."""
    return None if sys.stdout.isatty() else 160


def _write(text: str, output: Path | None) -> None:
    """Print the result, or write it to a file that appears only when it is whole."""
    if output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    import tempfile

    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=output.parent, delete=False) as stream:
            temporary = Path(stream.name)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(output)
    except OSError as error:
        raise PolicyError(f"--output {output}: cannot be written: {error.strerror}; choose another file") from error
