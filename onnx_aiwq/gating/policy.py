"""What the gate demands of each model: command line over policy over `[tool.aiwq]`, the specific over the general."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from onnx_aiwq.config import Config
from onnx_aiwq.config_document import Options, Rules
from onnx_aiwq.errors import PolicyError
from onnx_aiwq.quantities import Metric, Number, find_metric, parse_share, parse_value
from onnx_aiwq.runs import RunOptions, expand, place_below
from onnx_aiwq.settings import Settings

LIFTED = "none"
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Budget:
    """An upper limit in SI units, and where it was set."""

    metric: Metric
    limit: Number
    origin: str


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far above the baseline a metric may be, as a share, and where that was set."""

    share: Fraction
    origin: str


NO_TOLERANCE = Tolerance(Fraction(0), "the default")


@dataclass(frozen=True)
class Flags:
    """What the command line says.

    Attributes:
        options: of the analysis.
        budgets: texts ``METRIC=VALUE UNIT``.
        tolerances: texts ``METRIC=5%``; ``default=5%`` is for every metric without its own.
        baseline: report, or folder of reports.
    """

    options: RunOptions = field(default_factory=RunOptions)
    budgets: Sequence[str] = ()
    tolerances: Sequence[str] = ()
    baseline: Path | None = None


@dataclass(frozen=True)
class Plan:
    """What is checked of one model.

    Attributes:
        model: its path.
        options: of its analysis.
        budgets: by metric.
        tolerances: by metric, or `default`.
        baseline: report, or folder of reports.
        baseline_root: folder that model paths below the baseline folder are relative to.
        required: names of `--bind` and `--shape`, which at least one model must have.
        origins: setting -> (its value as text, where it was set).
    """

    model: Path
    options: RunOptions
    budgets: Mapping[str, Budget]
    tolerances: Mapping[str, Tolerance]
    baseline: Path | None
    baseline_root: Path
    required: frozenset[str] = frozenset()
    origins: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def tolerance(self, metric: str) -> Tolerance:
        """Of one metric; 0 % where none was set."""
        return self.tolerances.get(metric) or self.tolerances.get(DEFAULT) or NO_TOLERANCE


def plans(models: Sequence[str | Path], flags: Flags, layers: Sequence[Config]) -> list[Plan]:
    """One plan per model.

    Args:
        models: paths and globs; those of the policy if there are none.
        flags: the command line.
        layers: configuration files, the strongest last.

    Raises:
        PolicyError: if no model is named, or a budget or tolerance does not read.
        ModelError: if a glob matches no file.
    """
    _budgets(flags.budgets), _tolerances(flags.tolerances)  # a slip of the pen shows before any file is read
    if models:
        paths = expand(models)
    else:
        named = next((layer for layer in reversed(layers) if layer.gate.models), None)
        if named is None:
            raise PolicyError("no model: name one (model.onnx, 'models/**/*.onnx'), or set gate.models in aiwq.toml")
        paths = expand(map(named.resolve, named.gate.models))
    found = [_plan(path, flags, layers) for path in paths]
    if len(paths) > 1:
        found = [replace(each, options=each.options.for_several()) for each in found]
    return found


def _plan(model: Path, flags: Flags, layers: Sequence[Config]) -> Plan:
    settings = Settings()
    budgets: dict[str, Budget] = {}
    tolerances: dict[str, Tolerance] = {}
    baseline, root = None, Path.cwd()
    for layer in layers:
        for table, origin in _levels(layer, model):
            settings.add(table, layer, origin)
            if isinstance(table, Rules):
                _add_budgets(budgets, table, layer.path, origin)
                _add_tolerances(tolerances, table, layer.path, origin)
        if layer.gate.baseline is not None:
            baseline, root = Path(layer.resolve(layer.gate.baseline)), layer.folder
            settings.origins["baseline"] = (str(baseline), layer.path.name)
    settings.add_command_line(flags.options)
    budgets |= _budgets(flags.budgets)
    tolerances |= _tolerances(flags.tolerances)
    if flags.baseline is not None:
        baseline, root = flags.baseline, Path.cwd()
        settings.origins["baseline"] = (str(baseline), "--baseline")
    origins = settings.origins
    origins |= {f"budgets.{name}": (each.metric.text(each.limit), each.origin) for name, each in budgets.items()}
    origins |= {f"tolerances.{name}": (percent(each.share), each.origin) for name, each in tolerances.items()}
    required = frozenset(flags.options.bind) | frozenset(flags.options.shapes)
    return Plan(model, settings.options(), budgets, tolerances, baseline, root, required, origins)


def _levels(layer: Config, model: Path) -> Iterator[tuple[Options, str]]:
    """The tables of a file that apply to a model, the strongest last."""
    yield layer.options, layer.path.name
    yield layer.gate, f"{layer.path.name} [gate]"
    for override in layer.gate.overrides:
        if any(matches(glob, model, layer.folder) for glob in override.globs):
            yield override, f"{layer.path.name} [[gate.overrides]] {', '.join(override.globs)}"


def _add_budgets(budgets: dict[str, Budget], table: Rules, path: Path, origin: str) -> None:
    for name, text in table.budgets.items():
        place = f"{path}: budgets.{name}"
        metric = find_metric(name, place)
        if text == LIFTED:
            budgets.pop(name, None)
        else:
            budgets[name] = Budget(metric, parse_value(metric, str(text), place), origin)


def _add_tolerances(tolerances: dict[str, Tolerance], table: Rules, path: Path, origin: str) -> None:
    for name, text in table.tolerances.items():
        place = f"{path}: tolerances.{name}"
        if name != DEFAULT:
            find_metric(name, place)
        if text == LIFTED:
            tolerances.pop(name, None)
        else:
            tolerances[name] = Tolerance(parse_share(str(text), place), origin)


def _budgets(texts: Sequence[str]) -> dict[str, Budget]:
    """The values of `--budget`, by metric."""
    budgets: dict[str, Budget] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        place = f"--budget {text!r}"
        if not separator:
            raise PolicyError(f"{place}: expected METRIC=VALUE UNIT, for example energy=3 J")
        metric = find_metric(name.strip(), place)
        limit = parse_value(metric, value, place)
        if metric.name in budgets and budgets[metric.name].limit != limit:
            raise PolicyError(f"{place}: {metric.name} has another budget before; give it once")
        budgets[metric.name] = Budget(metric, limit, "--budget")
    return budgets


def _tolerances(texts: Sequence[str]) -> dict[str, Tolerance]:
    """The values of `--tolerance`, by metric."""
    tolerances: dict[str, Tolerance] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        place = f"--tolerance {text!r}"
        if not separator:
            raise PolicyError(f"{place}: expected METRIC=5%, or {DEFAULT}=5% for every metric")
        name = name.strip()
        if name != DEFAULT:
            find_metric(name, place)
        share = parse_share(value, place)
        if name in tolerances and tolerances[name].share != share:
            raise PolicyError(f"{place}: {name} has another tolerance before; give it once")
        tolerances[name] = Tolerance(share, "--tolerance")
    return tolerances


def percent(share: Fraction | float) -> str:
    """A share as a percentage, for example ``5 %``."""
    value = float(share) * 100
    return f"{value:.3g} %" if value < 1000 else f"{value:,.0f} %"


def matches(glob: str, model: Path, folder: Path) -> bool:
    """Whether a glob that begins in a folder names a model; `**` stands for any number of folders."""
    text = (place_below(model, folder) or model.absolute()).as_posix()
    return re.fullmatch(_pattern(glob.removeprefix("./")), text) is not None


def _pattern(glob: str) -> str:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    wild = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(wild.get(part, re.escape(part)) for part in parts)
