"""`aiwq calibrate`: measure this machine and fit a hardware profile."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.streams import say, write
from onnx_aiwq.errors import PolicyError

if TYPE_CHECKING:
    from onnx_aiwq.calibration.session import Settings, State

METERS = ("auto", "rapl", "nvml", "replay", "power-model")

Threads = Annotated[int, typer.Option("--threads", metavar="N", help="Threads within an operator.")]
Provider = Annotated[str, typer.Option("--provider", metavar="NAME", help="onnxruntime execution provider.")]
OptimisationLevel = Annotated[
    str, typer.Option("--optimization", metavar="|".join(opt.OPTIMISATION_LEVELS), help="Graph optimisation level.")
]
MeterOption = Annotated[str, typer.Option("--meter", metavar="|".join(METERS), help="Where joules come from.")]
Watts = Annotated[
    float | None, typer.Option("--watts", metavar="W", help="Power at work, for the power model; else published ones.")
]
Trace = Annotated[Path | None, typer.Option("--trace", metavar="FILE", help="Recorded trace, for --meter replay.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of the first network that is measured.")]


def calibrate(
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Folder of the profile instead of the user's own.")
    ] = None,
    identifier: Annotated[str | None, typer.Option("--id", metavar="ID", help="Id of the profile.")] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="TEXT", help="Full name of the profile.")] = None,
    provider: Provider = "CPUExecutionProvider",
    threads: Threads = 1,
    optimization: OptimisationLevel = "all",
    meter: MeterOption = "auto",
    watts: Watts = None,
    trace: Trace = None,
    processor: Annotated[
        str | None, typer.Option("--processor", metavar="NAME", help="For the power model, where the machine hides it.")
    ] = None,
    budget_minutes: Annotated[
        float | None, typer.Option("--budget-minutes", metavar="M", help="Time to take, 5 unless given.")
    ] = None,
    composites: Annotated[
        int | None, typer.Option("--composites", metavar="N", help="Networks to measure, instead of a time.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="About one minute; the intervals are wider.")] = False,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished calibration.")] = False,
    fit_only: Annotated[
        Path | None, typer.Option("--fit-only", metavar="DIR", help="Fit the samples of this folder again.")
    ] = None,
    form: Annotated[str, typer.Option("--format", metavar="table|json", help="Form of the result.")] = "table",
    comp_res: opt.CompRes = None,
    embodied_kg: Annotated[
        float | None, typer.Option("--embodied-kg", metavar="KG", help="kgCO2e of making the hardware.")
    ] = None,
    embodied_source: Annotated[
        str, typer.Option("--embodied-source", metavar="TEXT", help="Where that figure comes from.")
    ] = "given with --embodied-kg",
) -> None:
    """Measure this machine and fit a hardware profile: seconds by timing, joules by the best meter there is."""
    from onnx_aiwq.calibration import session
    from onnx_aiwq.calibration.meters import open_meter
    from onnx_aiwq.hardware_profile import CompResFigures, Embodied

    opt.choose("--format", form, ("table", "json"))
    opt.choose("--meter", meter, METERS)
    opt.choose("--optimization", optimization, opt.OPTIMISATION_LEVELS)
    minutes = _minutes(budget_minutes, composites, quick)
    if threads < 1:
        raise PolicyError(f"--threads {threads}: expected at least 1")
    if embodied_kg is not None and not embodied_kg >= 0:
        raise PolicyError(f"--embodied-kg {embodied_kg:g}: expected 0 or more")
    embodied = None if embodied_kg is None else Embodied(kgco2e=embodied_kg, source=embodied_source)
    figures = CompResFigures(**(opt.parse_comp_res(comp_res) or {}))
    opened = open_meter(meter, watts=watts, trace=trace, threads=threads, processor=processor, provider=provider)  # type: ignore[arg-type]
    for note in opened.notes:
        say(note)
    extra = []
    if fit_only is not None:
        state = session.read_state(fit_only)
        folder, target = fit_only, output
    else:
        settings = session.settings_of(provider, threads, optimization, seed)  # type: ignore[arg-type]
        folder, target = _folder(output, settings, identifier, resume), None
        state = _sampled(folder, settings, opened, minutes, composites, resume)
        if session.noisy(state):
            extra.append(
                f"this machine was not steady (its reference kernel varied by {state.drift - 1:.0%}); stop other work "
                "and calibrate again for narrower intervals"
            )
    with _stages() as stage:
        profile = session.finish(
            folder, state, opened, target=target, name=name, comp_res=figures, embodied=embodied, progress=stage
        )
    opened.close()
    if quick:
        extra.append("a --quick calibration has fewer networks behind it: intervals are wider than those of 5 minutes")
    write(session.render_result(profile, target or folder, extra, form), None)


def _minutes(budget: float | None, composites: int | None, quick: bool) -> float | None:
    from onnx_aiwq.calibration.session import DEFAULT_MINUTES, FIT_SHARE, QUICK_MINUTES

    given = [
        option
        for option, value in (("--budget-minutes", budget), ("--composites", composites), ("--quick", quick or None))
        if value is not None
    ]
    if len(given) > 1:
        raise PolicyError(f"{' and '.join(given)}: each says how much to measure; give one of them")
    if budget is not None and not budget > 0:
        raise PolicyError(f"--budget-minutes {budget:g}: expected more than 0")
    if composites is not None:
        if composites < 1:
            raise PolicyError(f"--composites {composites}: expected at least 1")
        return None
    whole = budget or (QUICK_MINUTES if quick else DEFAULT_MINUTES)
    return whole * (1 - FIT_SHARE)


def _folder(output: Path | None, settings: Settings, identifier: str | None, resume: bool) -> Path:
    from onnx_aiwq.calibration import session
    from onnx_aiwq.profiles import user_profile_folder

    if output is None and resume:
        folder = user_profile_folder() / (identifier or session.default_id(settings))
        if not (folder / session.SETTINGS).exists() or (folder / session.PROFILE).exists():
            raise PolicyError(f"--resume: {folder} holds no unfinished calibration; give its folder with --output")
        return folder
    return session.new_folder(output, settings, identifier)


def _sampled(
    folder: Path, settings: Settings, meter: object, minutes: float | None, composites: int | None, resume: bool
) -> State:
    from onnx_aiwq.calibration import session

    say(f"measuring into {folder}; interrupt at any time, `--resume` goes on")
    state, reference = session.begin(folder, settings, resume=resume)
    with _bar() as progress:
        return session.sample(
            folder,
            state,
            reference,
            meter,  # type: ignore[arg-type]
            minutes=minutes,
            composites=composites,
            progress=progress,
        )


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[float, str], None]]:
    """A bar with the time left on a terminal, a line now and then elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    if not sys.stderr.isatty():
        told = [-0.25]

        def tell(share: float, what: str) -> None:
            if share - told[0] >= 0.25:
                told[0] = share
                say(f"{share:.0%} measured, at {what}")

        yield tell
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("measuring", total=1.0)
        yield lambda share, what: bar.update(task, completed=share, description=what)


@contextlib.contextmanager
def _stages() -> Iterator[Callable[[str], None]]:
    from onnx_aiwq.cli.streams import shown_progress

    with shown_progress() as begin:
        yield begin
