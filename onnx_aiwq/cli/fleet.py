"""`aiwq fleet SOURCE...` and `aiwq fleet report DIR`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.groups import grouped
from onnx_aiwq.cli.limits import parse_memory, parse_seconds
from onnx_aiwq.cli.streams import say, shown_progress, table_width, use_colour, warn, write

if TYPE_CHECKING:
    from onnx_aiwq.fleet.cluster import Cluster
    from onnx_aiwq.fleet.driver import FleetRun
    from onnx_aiwq.fleet.settings import Limits, Settings
    from onnx_aiwq.runs import RunOptions

_HELP = ("-h", "--help")
_FORMATS = ("table", "json", "html")


class _SourcesOrCommand(TyperGroup):
    """A group whose first command is meant where the first word is no command: `fleet models/` is `fleet run models/`.

    A folder that is called like a command is written `./report`.
    """

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if not args or (args[0] not in self.commands and args[0] not in _HELP):
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)


fleet = typer.Typer(
    cls=_SourcesOrCommand,
    help="Analyse thousands of models into Parquet, and report on them. `aiwq fleet SOURCE...` is `aiwq fleet run "
    "SOURCE...`.",
    rich_markup_mode=None,
    add_completion=False,
)


def run(
    counting: opt.Counting,
    training: opt.Training,
    grid: opt.Grid,
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Files, folders, globs, and URLs of them (s3://, https://)."),
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="Folder of the fleet: new, or to go on with.")
    ],
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="Local processes; one per processor unless given.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="ADDRESS", help="A Dask scheduler that runs already.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", metavar="S", help="Seconds that one model may take.")] = 60.0,
    max_memory: Annotated[
        str, typer.Option("--max-memory", metavar="SIZE", help="Memory that the process of a model may take.")
    ] = "4 GB",
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Analyse again what failed, also where nothing has changed.")
    ] = False,
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Open files again whose size and time, or ETag, are unchanged.")
    ] = False,
    hardware: Annotated[
        list[str] | None,
        typer.Option("--hardware", metavar="NAME|FILE", help="Hardware profile; repeatable: one row for each."),
    ] = None,
    strict: opt.Strict = False,
) -> None:
    """Analyse every model of the sources into Parquet; what is done is skipped, so that a run may stop and go on."""
    from onnx_aiwq.errors import AiwqError
    from onnx_aiwq.fleet.driver import run_fleet
    from onnx_aiwq.fleet.progress import FleetProgress

    settings = _settings(opt.run_options(counting, grid, opt.Deployment(), training), hardware or [], strict)
    progress = FleetProgress(say, terminal=sys.stderr is not None and sys.stderr.isatty())
    try:
        done = run_fleet(
            sources,
            output,
            settings,
            cluster=_cluster(workers, scheduler),
            limits=_limits(timeout, max_memory),
            progress=progress,
            stage=lambda name: say(f"{name} ..."),
            retry=retry_errors,
            trust=not rehash,
        )
    except KeyboardInterrupt:
        raise AiwqError(
            f"interrupted: {progress.done:,} of {progress.total:,} models are done; run the same command again: it "
            "goes on where it stopped"
        ) from None
    write(_told(done, output), None)


def _settings(options: RunOptions, hardware: list[str], strict: bool) -> Settings:
    from onnx_aiwq.deployment import describe_deployment
    from onnx_aiwq.errors import ProfileError
    from onnx_aiwq.fleet.settings import Settings
    from onnx_aiwq.profiles import load_profile

    profiles = tuple(load_profile(name) for name in hardware) or (load_profile(None),)
    ids = [profile.id for profile in profiles]
    if len(set(ids)) < len(ids):
        raise ProfileError(f"--hardware: {', '.join(ids)}: give each profile once")
    describe_deployment(
        hardware=profiles[0],
        region=options.region,
        carbon_intensity_g_per_kwh=options.carbon_intensity,
        carbon_profile=options.carbon_profile,
        hour=options.hour,
        pue=options.pue,
    )  # a slip in the options would otherwise be the error of every model
    return Settings(options, profiles, strict)


def _limits(timeout: float, max_memory: str) -> Limits:
    from onnx_aiwq.fleet.settings import Limits

    return Limits(parse_seconds(timeout), parse_memory(max_memory))


def _cluster(workers: int | None, scheduler: str | None) -> Cluster:
    from onnx_aiwq.errors import PolicyError
    from onnx_aiwq.fleet.cluster import Cluster

    if workers is not None and scheduler is not None:
        raise PolicyError("--workers is for local processes, --scheduler for a cluster that has its own; give one")
    if workers is not None and workers < 1:
        raise PolicyError(f"--workers {workers}: expected at least 1")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Cluster(workers or available or 1, scheduler)


def _told(done: FleetRun, output: Path) -> str:
    from onnx_aiwq.fleet.progress import duration

    worked = done.analysed + done.failed
    rate = f" ({worked / done.seconds:.1f} models/s)" if worked else ""
    return (
        f"run {done.run}: {done.models:,} models, {done.analysed:,} analysed, {done.unchanged:,} unchanged, "
        f"{done.failed:,} failed, in {duration(done.seconds)}{rate}\n"
        f"`aiwq fleet report {output}` summarises\n"
    )


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `aiwq fleet --output DIR` wrote.")],
    inferences: Annotated[
        str,
        typer.Option("--inferences", metavar="N|FILE.csv", help="Of each model, or a CSV of model,inferences."),
    ] = "1",
    by: Annotated[str, typer.Option("--by", metavar="METRIC", help="What consumers are ranked by.")] = "energy",
    top: Annotated[int, typer.Option("--top", metavar="N", help="Length of every list.")] = 10,
    pareto: Annotated[
        str, typer.Option("--pareto", metavar="METRIC,METRIC", help="The rows that no other beats in both metrics.")
    ] = "energy,seconds",
    form: Annotated[str, typer.Option("--format", metavar="|".join(_FORMATS), help="Form of the result.")] = "table",
    output: opt.Output = None,
) -> None:
    """Summarise a fleet: totals, largest consumers, Pareto front, errors, and what the latest run changed."""
    from onnx_aiwq.errors import PolicyError
    from onnx_aiwq.fleet.inferences import parse_inferences
    from onnx_aiwq.fleet.render import render_fleet
    from onnx_aiwq.fleet.summary import Question, summarise

    opt.choose("--format", form, _FORMATS)
    metrics = [name.strip() for name in pareto.split(",")]
    if len(metrics) != 2:
        raise PolicyError(f"--pareto {pareto!r}: expected two metrics, for example energy,seconds")
    question = Question(parse_inferences(inferences), top, by, (metrics[0], metrics[1]))
    with shown_progress() as progress:
        progress("reading the fleet")
        found = summarise(folder, question)
    text = render_fleet(found, form, width=table_width(), colour=output is None and use_colour())
    write(text, output)
    warn(found["warnings"])


for command in (run, report):
    fleet.command()(grouped(command))
