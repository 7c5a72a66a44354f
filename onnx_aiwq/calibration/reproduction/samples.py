"""The samples of the experiment, one row per run, and their file."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast, get_args

from onnx_aiwq.calibration.reproduction.networks import ACTIVATIONS, Family
from onnx_aiwq.errors import ProfileError
from onnx_aiwq.hardware_profile import Source


@dataclass(frozen=True)
class Sample:
    """One run of one network.

    Attributes:
        network: name.
        family: "DNN" or "CNN".
        activation: Sigmoid, Tanh or GELU.
        size: width or depth.
        run: number of the run, from 1.
        instances: that the run inferred.
        transistor_operations: of the run, in the paper's convention.
        flops: of the run; one FLOP is one multiply-accumulate, as in the paper's fits.
        seconds: of the run.
        joules: of the run.
        label: how the joules were obtained.
    """

    network: str
    family: Family
    activation: str
    size: int
    run: int
    instances: int
    transistor_operations: int
    flops: int
    seconds: float
    joules: float
    label: Source


_COLUMNS = tuple(field.name for field in fields(Sample))
_WHOLE = ("size", "run", "instances", "transistor_operations", "flops")
_REAL = ("seconds", "joules")


def samples_text(samples: list[Sample]) -> str:
    """The samples as CSV."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**asdict(sample), **{key: f"{getattr(sample, key):.6g}" for key in _REAL}} for sample in samples)
    return stream.getvalue()


def read_samples(path: Path) -> list[Sample]:
    """The samples of a file that `samples_text` wrote.

    Raises:
        ProfileError: if it cannot be read, lacks a column, or a row holds no sample; it names the line.
    """
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"--samples {path}: cannot be read: {error}; give the samples.csv of --output") from None
    missing = [column for column in _COLUMNS if not rows or rows[0].get(column) is None]
    if missing:
        raise ProfileError(
            f"--samples {path}: no samples with the columns {', '.join(missing)}; give the samples.csv of --output"
        )
    return [_sample(path, line, row) for line, row in enumerate(rows, start=2)]


def _sample(path: Path, line: int, row: dict[str, Any]) -> Sample:
    values = {column: row.get(column) for column in _COLUMNS}
    try:
        numbers: dict[str, Any] = {column: int(str(values[column])) for column in _WHOLE}
        numbers |= {column: float(str(values[column])) for column in _REAL}
    except ValueError as error:
        raise ProfileError(f"--samples {path}: line {line}: {error}") from None
    if not all(math.isfinite(numbers[column]) and numbers[column] > 0 for column in (*_REAL, *_WHOLE)):
        raise ProfileError(f"--samples {path}: line {line}: every number of a sample is finite and above zero")
    if values["activation"] not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ProfileError(
            f"--samples {path}: line {line}: activation {values['activation']!r}; expected one of {known}"
        )
    if values["family"] not in get_args(Family) or values["label"] not in get_args(Source):
        raise ProfileError(
            f"--samples {path}: line {line}: family {values['family']!r} with label {values['label']!r}; expected "
            f"{' or '.join(get_args(Family))}, and one of {', '.join(get_args(Source))}"
        )
    return Sample(**cast("dict[str, Any]", {**values, **numbers}))
