"""`aiwq gate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.streams import line_width, shown_progress, table_width, use_colour, warn, write
from onnx_aiwq.errors import PolicyError

if TYPE_CHECKING:
    from onnx_aiwq.gating.policy import Plan

Verdict = dict[str, Any]


def gate(
    counting: opt.Counting,
    training: opt.Training,
    grid: opt.Grid,
    deployment: opt.Deployment,
    models: opt.Models = None,
    budget: Annotated[
        list[str] | None,
        typer.Option("--budget", metavar="METRIC=VALUE UNIT", help="Upper limit, as 'energy=3 J'; repeatable."),
    ] = None,
    baseline: opt.Baseline = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option("--tolerance", metavar="METRIC=5%", help="Growth allowed since the baseline; repeatable."),
    ] = None,
    policy: opt.Policy = None,
    hardware: opt.Hardware = None,
    strict: Annotated[bool, typer.Option("--strict", help="The gate is always strict; accepted for symmetry.")] = True,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML.")] = None,
    sarif: Annotated[Path | None, typer.Option("--sarif", metavar="FILE", help="Write SARIF 2.1.0.")] = None,
    summary: Annotated[
        Path | None, typer.Option("--summary", metavar="FILE", help="Append a Markdown summary, as for a CI job.")
    ] = None,
    warn_only: Annotated[bool, typer.Option("--warn-only", help="Exit with 0 even where a check fails.")] = False,
    show_config: opt.ShowConfig = False,
    form: opt.Format = "table",
    output: opt.Output = None,
) -> int:
    """Check models against budgets and a baseline; exit code 0 within, 1 over, 2 no answer."""
    from onnx_aiwq.gating import decide
    from onnx_aiwq.gating.policy import Flags, plans
    from onnx_aiwq.settings import configurations

    opt.choose("--format", form, opt.FORMATS)
    options = opt.run_options(counting, grid, deployment, training, hardware)
    flags = Flags(options, tuple(budget or ()), tuple(tolerance or ()), baseline)
    planned = plans(models or (), flags, configurations(policy))
    if show_config:
        _show(planned, form, output)
        return 0
    with shown_progress() as progress:
        verdict = decide(planned, progress).to_dict()
        progress("writing the verdict")
    _write_files(verdict, junit, sarif, summary)
    _write_verdict(verdict, form, output)
    warn(verdict["warnings"])
    return 0 if verdict["passed"] or warn_only else 1


def _write_verdict(verdict: Verdict, form: str, output: Path | None) -> None:
    from onnx_aiwq.render.verdict import render_verdict

    write(render_verdict(verdict, form, width=table_width(), colour=output is None and use_colour()), output)


def _write_files(verdict: Verdict, junit: Path | None, sarif: Path | None, summary: Path | None) -> None:
    """Write what CI systems read."""
    from onnx_aiwq.render.junit import render_junit
    from onnx_aiwq.render.sarif import render_sarif
    from onnx_aiwq.render.verdict import render_summary

    _write_file("--junit", junit, lambda before: render_junit(verdict))
    _write_file("--sarif", sarif, lambda before: render_sarif(verdict))
    _write_file("--summary", summary, lambda before: before + render_summary(verdict))


def _write_file(option: str, path: Path | None, text: Callable[[str], str]) -> None:
    from onnx_aiwq.files import write_whole

    if path is None:
        return
    try:
        before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        if before and not before.endswith("\n"):
            before += "\n"
        write_whole(path, text(before))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PolicyError(f"{option} {path}: cannot be written: {reason}; choose another file") from error


def _show(plans: list[Plan], form: str, output: Path | None) -> None:
    from onnx_aiwq.render.listing import write_rows

    rows = [
        (str(plan.model), setting, value, origin)
        for plan in plans
        for setting, (value, origin) in sorted(plan.origins.items())
    ]
    write(write_rows(("model", "setting", "value", "from"), rows, form, line_width()), output)
