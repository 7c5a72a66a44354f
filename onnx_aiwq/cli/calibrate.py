"""`aiwq calibrate`: measure this machine and fit a hardware profile."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.metering import Metering
from onnx_aiwq.cli.streams import say, shown_progress, write
from onnx_aiwq.errors import PolicyError

if TYPE_CHECKING:
    from onnx_aiwq.calibration.meters import Meter
    from onnx_aiwq.calibration.stored import Settings, State
    from onnx_aiwq.hardware_profile import CompResFigures, Embodied

_FORMS = ("table", "json")


@dataclass(frozen=True)
class Running:
    """What is measured."""

    provider: Annotated[
        str | None,
        typer.Option(
            "--provider",
            metavar="NAME",
            help="onnxruntime execution provider: CPUExecutionProvider unless given, or CUDAExecutionProvider.",
        ),
    ] = None
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", help="Threads within an operator; 1 unless given.")
    ] = None
    optimization: Annotated[
        str | None, opt.one_of("--optimization", opt.OPTIMISATION_LEVELS, "Graph optimisation level; all unless given.")
    ] = None
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Of the first network that is measured; 0 unless given.")
    ] = None

    def settings(self) -> Settings:
        """For this machine.

        Raises:
            AiwqError: if a value is not usable here.
        """
        from onnx_aiwq.calibration.stored import settings_of

        level = self.optimization or "all"
        opt.choose("--optimization", level, opt.OPTIMISATION_LEVELS)
        threads = 1 if self.threads is None else self.threads
        if threads < 1:
            raise PolicyError(f"--threads {threads}: expected at least 1")
        return settings_of(self.provider or "CPUExecutionProvider", threads, level, self.seed or 0)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Amount:
    """How much is measured."""

    budget_minutes: Annotated[
        float | None, typer.Option("--budget-minutes", metavar="M", help="Time to take, 5 unless given.")
    ] = None
    composites: Annotated[
        int | None, typer.Option("--composites", metavar="N", help="Networks to measure, instead of a time.")
    ] = None
    quick: Annotated[bool, typer.Option("--quick", help="About one minute; the intervals are wider.")] = False
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished calibration.")] = False
    fit_only: Annotated[
        Path | None,
        typer.Option("--fit-only", metavar="DIR", help="Measure nothing: fit the samples of this folder again."),
    ] = None

    def sampling_minutes(self) -> float | None:
        """Minutes to take samples for; None where a number of networks was given.

        Raises:
            PolicyError: if several amounts are given, or one that is none.
        """
        from onnx_aiwq.calibration.session import DEFAULT_MINUTES, FIT_SHARE, QUICK_MINUTES

        amounts = {"--budget-minutes": self.budget_minutes, "--composites": self.composites}
        given = _given({**amounts, "--quick": self.quick or None})
        if len(given) > 1:
            raise PolicyError(f"{' and '.join(given)}: each says how much to measure; give one of them")
        if self.budget_minutes is not None and not self.budget_minutes > 0:
            raise PolicyError(f"--budget-minutes {self.budget_minutes:g}: expected more than 0")
        if self.composites is not None:
            if self.composites < 1:
                raise PolicyError(f"--composites {self.composites}: expected at least 1")
            return None
        whole = self.budget_minutes or (QUICK_MINUTES if self.quick else DEFAULT_MINUTES)
        return whole * (1 - FIT_SHARE)


@dataclass(frozen=True)
class CalibrationMetering(Metering):
    """Where joules come from."""

    processor: Annotated[
        str | None, typer.Option("--processor", metavar="NAME", help="For the power model, where the machine hides it.")
    ] = None

    def opened(self, settings: Settings) -> Meter:
        """The meter of a calibration, its notes told."""
        meter = self.open(provider=settings.provider, threads=settings.threads, processor=self.processor)
        for note in meter.notes:
            say(note)
        return meter


@dataclass(frozen=True)
class Named:
    """The profile that results."""

    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Folder of the profile instead of the user's own.")
    ] = None
    identifier: Annotated[str | None, typer.Option("--id", metavar="ID", help="Id of the profile.")] = None
    name: Annotated[str | None, typer.Option("--name", metavar="TEXT", help="Full name of the profile.")] = None
    comp_res: opt.CompRes = None
    embodied_kg: Annotated[
        float | None, typer.Option("--embodied-kg", metavar="KG", help="kgCO2e of making the hardware.")
    ] = None
    embodied_source: Annotated[
        str, typer.Option("--embodied-source", metavar="TEXT", help="Where that figure comes from.")
    ] = "given with --embodied-kg"

    def check(self, folder: Path | None) -> None:
        """Refuse an id that is not that of the folder: a profile is called as its folder is.

        Raises:
            PolicyError: if they differ.
        """
        from onnx_aiwq.hardware_profile import slug

        if self.identifier is not None and folder is not None and slug(folder.resolve().name) != self.identifier:
            raise PolicyError(
                f"--id {self.identifier}: a profile has the id of its folder, here {slug(folder.resolve().name)!r}; "
                "leave --id out, or name the folder so"
            )

    def embodied(self) -> Embodied | None:
        """What making the hardware emitted, where it is known."""
        from onnx_aiwq.hardware_profile import Embodied

        if self.embodied_kg is None:
            return None
        if not self.embodied_kg >= 0:
            raise PolicyError(f"--embodied-kg {self.embodied_kg:g}: expected 0 or more")
        return Embodied(kgco2e=self.embodied_kg, source=self.embodied_source)

    def figures(self) -> CompResFigures:
        """Those of AIWQ eq. 30 that were given."""
        from onnx_aiwq.hardware_profile import CompResFigures

        return CompResFigures(**(opt.parse_comp_res(self.comp_res) or {}))


def calibrate(
    running: Running,
    amount: Amount,
    metering: CalibrationMetering,
    named: Named,
    form: Annotated[str, opt.one_of("--format", _FORMS, "Form of the result.")] = "table",
) -> None:
    """Measure this machine and fit a hardware profile: seconds by timing, joules by the best meter there is."""
    from onnx_aiwq.calibration import session

    opt.choose("--format", form, _FORMS)
    metering.check()
    named.check(named.output or amount.fit_only)
    embodied, figures = named.embodied(), named.figures()
    if amount.fit_only is None:
        folder, state, meter, notes = _measured(running, amount, metering, named)
        target = None
    else:
        folder, target, notes = amount.fit_only, named.output, []
        state = _stored(running, amount, folder)
        meter = metering.opened(state.settings)
    with contextlib.closing(meter), shown_progress() as stage:
        profile = session.finish(
            folder, state, meter, target=target, name=named.name, comp_res=figures, embodied=embodied, progress=stage
        )
    write(session.render_result(profile, target or folder, notes, form), None)


def _stored(running: Running, amount: Amount, folder: Path) -> State:
    """The calibration of a folder, where nothing is asked for that only measuring could give."""
    from onnx_aiwq.calibration.stored import read_state

    measuring = {
        "--budget-minutes": amount.budget_minutes,
        "--composites": amount.composites,
        "--quick": amount.quick or None,
        "--resume": amount.resume or None,
        "--seed": running.seed,
    }
    unused = _given(measuring)
    if unused:
        raise PolicyError(
            f"--fit-only measures nothing, so {' and '.join(unused)} would have no effect; leave one or the other out"
        )
    state = read_state(folder)
    settings = state.settings
    for option, given, there in (
        ("--provider", running.provider, settings.provider),
        ("--threads", running.threads, settings.threads),
        ("--optimization", running.optimization, settings.level),
    ):
        if given is not None and given != there:
            raise PolicyError(f"{option} {given}: the samples of {folder} were taken with {there}; leave {option} out")
    return state


def _given(values: Mapping[str, object]) -> list[str]:
    return [option for option, value in values.items() if value is not None]


def _measured(
    running: Running, amount: Amount, metering: CalibrationMetering, named: Named
) -> tuple[Path, State, Meter, list[str]]:
    """A folder with the samples asked for, what it holds of the calibration, the meter, and what to say at the end."""
    from onnx_aiwq.calibration import session

    minutes = amount.sampling_minutes()
    settings = running.settings()
    meter = metering.opened(settings)
    folder = _folder(named, settings, amount.resume)
    say(f"measuring into {folder}; interrupt at any time, `--resume` goes on")
    state, reference = session.begin(folder, settings, resume=amount.resume)
    with _bar() as progress:
        session.sample(
            folder, state, reference, meter, minutes=minutes, composites=amount.composites, progress=progress
        )
    notes = []
    if session.noisy(state):
        notes.append(
            f"this machine was not steady (its reference kernel varied by {state.drift - 1:.0%}); stop other work "
            "and calibrate again for narrower intervals"
        )
    if amount.quick:
        notes.append("a --quick calibration has fewer networks behind it: intervals are wider than those of 5 minutes")
    return folder, state, meter, notes


def _folder(named: Named, settings: Settings, resume: bool) -> Path:
    from onnx_aiwq.calibration import stored
    from onnx_aiwq.profiles import user_profile_folder

    if named.output is None and resume:
        folder = user_profile_folder() / (named.identifier or stored.default_id(settings))
        if not (folder / stored.SETTINGS).exists() or (folder / stored.PROFILE).exists():
            raise PolicyError(f"--resume: {folder} holds no unfinished calibration; give its folder with --output")
        return folder
    return stored.new_folder(named.output, settings, named.identifier)


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
