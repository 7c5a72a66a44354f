"""`aiwq reproduce`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.streams import line_width, shown_progress, warn, write
from onnx_aiwq.errors import PolicyError

if TYPE_CHECKING:
    from onnx_aiwq.calibration.reproduction.measuring import Campaign

_EXPERIMENTS = ("transistor-operations",)
_FORMATS = ("table", "json", "markdown")
_METERS = ("auto", "rapl", "power-model")
_MOST_RUNS = 10_000


def reproduce(
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT", help=f"{', '.join(_EXPERIMENTS)}.")],
    runs: Annotated[int, typer.Option("--runs", metavar="N", help="Runs of every network; at least 5.")] = 50,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the order of runs and of the splits.")] = 0,
    splits: Annotated[
        int, typer.Option("--splits", metavar="N", help="Random 60/40 splits that a score is over.")
    ] = 20,
    window: Annotated[
        float, typer.Option("--window", metavar="S", help="Least seconds of a run; a meter may need longer.")
    ] = 0.01,
    meter: Annotated[
        str, typer.Option("--meter", metavar="|".join(_METERS), help="Where joules come from; `aiwq doctor` lists.")
    ] = "auto",
    watts: Annotated[float | None, typer.Option("--watts", metavar="W", help="Watts of the power model.")] = None,
    samples: Annotated[
        Path | None, typer.Option("--samples", metavar="FILE", help="Judge a samples.csv instead of measuring.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Also write samples.csv and table.json there.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="DIR", help="Write every figure there, as SVG and PNG.")
    ] = None,
    form: Annotated[str, typer.Option("--format", metavar="|".join(_FORMATS), help="Form of the result.")] = "table",
) -> None:
    """Repeat a paper's experiment on this machine and print the result beside the paper's."""
    opt.choose("EXPERIMENT", experiment, _EXPERIMENTS)
    opt.choose("--format", form, _FORMATS)
    opt.choose("--meter", meter, _METERS)
    _check(runs, splits, seed, window)
    if plot is not None:
        _need_matplotlib()

    from onnx_aiwq.calibration.reproduction.document import reproduction
    from onnx_aiwq.calibration.reproduction.samples import read_samples, samples_text
    from onnx_aiwq.render.reproduction import render_reproduction

    with shown_progress() as progress:
        campaign = None if samples is not None else _measured(meter, watts, runs, window, seed, progress)
        taken = read_samples(samples) if samples is not None else list(campaign.samples) if campaign else []
        if output is not None:
            _write_all(output, "--output", [("samples.csv", samples_text(taken))])
        progress("fitting")
        machine = None if campaign is None else _machine()
        document = reproduction(taken, campaign=campaign, machine=machine, splits=splits, seed=seed)
        if output is not None:
            _write_all(output, "--output", [("table.json", render_reproduction(document, "json"))])
        if plot is not None:
            from onnx_aiwq.render.reproduction_plots import plot_reproduction

            progress("drawing")
            _write_all(plot, "--plot", plot_reproduction(document, taken))
    write(render_reproduction(document, form, line_width()), None)
    warn(document["warnings"])


def _check(runs: int, splits: int, seed: int, window: float) -> None:
    if not 5 <= runs <= _MOST_RUNS:
        raise PolicyError(f"--runs {runs}: expected 5 to {_MOST_RUNS}; the paper took 50")
    if not 1 <= splits <= _MOST_RUNS:
        raise PolicyError(f"--splits {splits}: expected 1 to {_MOST_RUNS}; the paper took 1")
    if seed < 0:
        raise PolicyError(f"--seed {seed}: expected a whole number from 0")
    if not 0 < window <= 3600:
        raise PolicyError(f"--window {window:g}: expected seconds above 0 and at most 3600, for example 0.01")


def _need_matplotlib() -> None:
    """Fail before measuring, not after."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise PolicyError(
            "--plot needs matplotlib; install it with `pip install 'onnx-aiwq[plots]'`, or leave --plot out"
        ) from None


def _measured(meter: str, watts: float | None, runs: int, window: float, seed: int, progress: Any) -> Campaign:
    from onnx_aiwq.calibration.meters import open_meter
    from onnx_aiwq.calibration.reproduction.measuring import measure
    from onnx_aiwq.calibration.reproduction.networks import paper_networks

    name: Any = meter
    opened = open_meter(name, watts=watts, threads=1)
    try:
        networks = list(paper_networks())
        return measure(networks, opened, runs=runs, window_s=window, seed=seed, progress=progress)
    finally:
        opened.close()


def _machine() -> dict[str, str]:
    from onnx_aiwq.calibration.machine import describe_machine

    return describe_machine()


def _write_all(folder: Path, option: str, files: Iterable[tuple[str, str | bytes]]) -> None:
    from onnx_aiwq.files import write_whole

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files:
            write_whole(folder / name, content)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PolicyError(f"{option} {folder}: cannot be written: {reason}; choose another folder") from error
