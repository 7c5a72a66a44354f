"""Reports for compare and gate: globs become models, and models become reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypedDict, cast

from onnx_aiwq.errors import ModelError, ShapeError, UnsupportedOperatorError, suggestion

if TYPE_CHECKING:
    from onnx_aiwq.graph import Graph
    from onnx_aiwq.hardware_profile import HardwareProfile
    from onnx_aiwq.loading import Skeleton

_STEP = {"loss": "loss", "optimizer": "optimizer", "bp": "bp", "mini_batch": "batch"}
_GLOB_CHARACTERS = frozenset("*?[")
Progress = Callable[[str], None]


class Analysis(TypedDict, total=False):
    """How models are analysed, as keywords with the names of `onnx_aiwq.analyze`; `RunOptions` says what they mean."""

    bind: Mapping[str, int] | None
    shapes: Mapping[str, Sequence[int]] | None
    optional: frozenset[str]
    region: str | None
    carbon_intensity_g_per_kwh: float | None
    pue: float | None
    inferences: int | None
    convention: str | None
    level: str | None
    loss: str | None
    optimizer: str | None
    bp: str | None
    mini_batch: int | None
    lifecycle: str | None
    carbon_profile: str | None
    hour: int | None
    utilization: float | None
    embodied_kg: float | None
    lifetime_years: float | None


def quiet(stage: str) -> None:
    """No progress."""


@dataclass(frozen=True)
class RunOptions:
    """How models are analysed; None is the default of `analyze`.

    Attributes:
        bind: values of symbolic dimensions by name.
        shapes: shapes of inputs by name.
        optional: names in `bind` and `shapes` that a model need not have; the others it must.
        hardware: name or file of a profile, or a profile.
        region: grid or cloud region.
        carbon_intensity: gCO2e/kWh, instead of the region's.
        pue: power usage effectiveness.
        inferences: number of inferences that eCAL and CO2e are for.
        convention: `default` or `paper`.
        level: `inference`, `validation` or `training`.
        loss: of validation and training.
        optimizer: of training.
        bp: `instance` or `batch`, what training propagates back.
        mini_batch: runs of the model per training step.
        lifecycle: TOML file of the life cycle around the model.
        carbon_profile: CSV file of intensities by hour, instead of the region's.
        hour: of the day, for `carbon_profile`.
        utilization: share of its powered time that the hardware does this work.
        embodied_kg: kgCO2e of making the hardware, instead of the profile's.
        lifetime_years: of use that it is spread over.
    """

    bind: Mapping[str, int] = field(default_factory=dict)
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    hardware: str | HardwareProfile | None = None
    region: str | None = None
    carbon_intensity: float | None = None
    pue: float | None = None
    inferences: int | None = None
    convention: str | None = None
    level: str | None = None
    loss: str | None = None
    optimizer: str | None = None
    bp: str | None = None
    mini_batch: int | None = None
    lifecycle: str | None = None
    carbon_profile: str | None = None
    hour: int | None = None
    utilization: float | None = None
    embodied_kg: float | None = None
    lifetime_years: float | None = None

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `onnx_aiwq.report.analyze` beside the graph, without what is left to its defaults."""
        from onnx_aiwq.report import TrainingStep

        apart = {"bind", "shapes", "optional", "hardware", "carbon_intensity", *_STEP}
        given = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in apart}
        given["carbon_intensity_g_per_kwh"] = self.carbon_intensity
        step = {key: value for name, key in _STEP.items() if (value := getattr(self, name)) is not None}
        given["step"] = TrainingStep(**step) if step else None
        return {name: value for name, value in given.items() if value is not None}

    def keywords(self) -> Analysis:
        """The same as keywords of `compare`, which takes its hardware apart."""
        given = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "hardware"}
        given["carbon_intensity_g_per_kwh"] = given.pop("carbon_intensity")
        return cast("Analysis", given)

    def for_several(self) -> RunOptions:
        """The same for several models, of which each has only some of the names."""
        return replace(self, optional=frozenset(self.bind) | frozenset(self.shapes))


def run_options(analysis: Analysis, hardware: str | HardwareProfile | None = None) -> RunOptions:
    """The options of a run from the keywords of a function."""
    given: dict[str, Any] = {name: value for name, value in analysis.items() if value is not None}
    if "carbon_intensity_g_per_kwh" in given:
        given["carbon_intensity"] = given.pop("carbon_intensity_g_per_kwh")
    return RunOptions(hardware=hardware, **given)


def expand(patterns: Iterable[str | Path], folder: Path | None = None) -> list[Path]:
    """Paths of models, each once, in the order given; a glob (``models/**/*.onnx``) in alphabetical order.

    Args:
        patterns: paths and globs.
        folder: that relative globs begin in; the current folder if None.

    Raises:
        ModelError: if a glob matches no file.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern) if folder is None else folder / pattern
        if _GLOB_CHARACTERS.isdisjoint(str(pattern)) or path.exists():
            found.setdefault(path)
            continue
        files = sorted(match for match in _matches(path) if match.is_file())
        if not files:
            raise ModelError(f"{pattern}: no file matches; check the pattern and the folder that it begins in")
        found.update(dict.fromkeys(files))
    return list(found)


def place_below(path: Path, folder: Path) -> Path | None:
    """The path relative to a folder; None where it lies outside."""
    try:
        return (path.parent.resolve() / path.name).relative_to(folder.resolve())
    except ValueError:
        return None


def _matches(pattern: Path) -> Iterator[Path]:
    """Files of a glob; what stands before its first wild folder is taken as it is."""
    parts = pattern.parts
    wild = next(index for index, part in enumerate(parts) if not _GLOB_CHARACTERS.isdisjoint(part))
    return Path(*parts[:wild]).glob(str(PurePath(*parts[wild:])))


def analysed(
    path: Path,
    options: RunOptions,
    hardware: Sequence[str | HardwareProfile | None],
    progress: Progress = quiet,
    *,
    formulas: bool = True,
) -> Iterator[dict[str, Any]]:
    """The JSON report of one model on each piece of hardware.

    Raises:
        AiwqError: as `onnx_aiwq.analyze`.
    """
    from onnx_aiwq.report import analyze

    progress(f"reading {path}")
    graph = loaded(path, options)
    for each in hardware:
        progress(f"counting {path}")
        yield analyze(graph, hardware=each, formulas=formulas, **options.arguments()).to_dict()


def loaded(source: Path | Skeleton, options: RunOptions) -> Graph:
    """The graph of a model with those of the bindings and shapes that it has a name for.

    Raises:
        AiwqError: as `onnx_aiwq.load`.
    """
    from onnx_aiwq.graph import load

    fitting = fitted(source, options)
    return load(source, bind=fitting.bind, shapes=fitting.shapes)


def fitted(source: str | Path | Skeleton, options: RunOptions) -> RunOptions:
    """The same without the optional names that a model does not have.

    Raises:
        AiwqError: if the model cannot be read.
    """
    from onnx_aiwq.graph import load

    if options.optional.isdisjoint(options.bind.keys() | options.shapes.keys()):
        return options
    bare = load(source)  # what the model has is known only when it is read without them
    inputs = {tensor.name for tensor in bare.inputs}
    return replace(
        options,
        bind={name: value for name, value in options.bind.items() if _wanted(name, bare.assumed_bindings, options)},
        shapes={name: value for name, value in options.shapes.items() if _wanted(name, inputs, options)},
    )


def _wanted(name: str, known: Iterable[str], options: RunOptions) -> bool:
    return name in known or name not in options.optional


def require_used(options: RunOptions, names: Iterable[str], reports: Sequence[Mapping[str, Any]]) -> None:
    """Refuse bindings and shapes from the command line that no model has: they are slips of the pen.

    Args:
        options: of the run.
        names: that the command line gave.
        reports: of all models.

    Raises:
        ShapeError: naming the first of them, with a suggestion.
    """
    symbols: set[str] = set()
    inputs: set[str] = set()
    for report in reports:
        model = report["model"]
        symbols |= model["bindings"].keys() | model["assumed_bindings"].keys()
        inputs |= {cast(str, tensor["name"]) for tensor in model["inputs"]}
    for name in names:
        for option, given, known in (("--bind", options.bind, symbols), ("--shape", options.shapes, inputs)):
            if name in given and name not in known:
                near = suggestion(name, known)
                raise ShapeError(f"{option} {name}: none of the {len(reports)} models has it;{near or ' leave it out'}")


def require_whole(reports: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Refuse reports with an unbound dimension or a gap; all problems of all models in one message.

    Args:
        reports: name of the model, and its report.

    Raises:
        ShapeError: naming the dimensions with the option that binds them.
        UnsupportedOperatorError: naming the operators, where no dimension is unbound.
    """
    problems = [(name, report, found) for name, report in reports if (found := gaps(report))]
    if problems:
        unbound = any(report["model"]["assumed_bindings"] for _, report, _ in problems)
        message = "; ".join(dict.fromkeys(f"{name}: {'; '.join(found)}" for name, _, found in problems))
        raise (ShapeError if unbound else UnsupportedOperatorError)(message)


def gaps(report: Mapping[str, Any]) -> list[str]:
    """Why a report gives no complete answer, one phrase each with the next step; empty where it does."""
    assumed, unsupported = report["model"]["assumed_bindings"], report["coverage"]["unsupported_operators"]
    problems = []
    if assumed:
        options = " ".join(f"--bind {name}=N" for name in assumed)
        problems.append(f"dimensions without a value: {', '.join(map(repr, assumed))}; give each one with {options}")
    if unsupported:
        problems.append(
            f"operators that cannot be counted: {', '.join(unsupported)}; register a rule for each with onnx_aiwq.rule"
        )
    elif report["totals"]["partial"]:
        names = [repr(node["name"]) for node in report["nodes"] if node["energy_j"] is None][:5]
        problems.append(
            f"the totals are partial: shapes are unknown at {', '.join(names) or 'some nodes'}; give the inputs that "
            "decide them with --shape"
        )
    return problems
