"""Samples: what every operator of the composites took, one row each, appended to a file as they are taken."""

from __future__ import annotations

import csv
import io
import json
import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_aiwq.calibration.composites import composite
from onnx_aiwq.calibration.profiling import CallOverhead, NodeSeconds, node_seconds
from onnx_aiwq.calibration.running import (
    Feeds,
    Reference,
    Runtime,
    Timing,
    feeds_for,
    open_session,
    sessions_until_agreed,
    time_runs,
    uniquely_named,
)
from onnx_aiwq.graph import load
from onnx_aiwq.kernels import bytes_since
from onnx_aiwq.vocabulary import DType, Operator, Tensor

COLUMNS = ("composite", "node", "seconds", "reference_s", "operator")
RUNS = 12
LEAST_RUNS = 5
RUNS_BUDGET_S = 0.6  # slow composites run less often: their spread is small
_PROFILES = 2  # sessions under the profiler of one thread
_PARTS = 3  # that runs of several threads are shared among
_APART, _APART_S = 1.25, 3e-6  # how far two of them may be apart: as a ratio, and, for the smallest kernels, in seconds
_SMALL = 16  # elements of a constant that are worth keeping: axes, pads, permutations


@dataclass(frozen=True)
class Sample:
    """One operator in one composite.

    Attributes:
        composite: which network, for leaving whole ones out.
        node: its name there; "" for the network as a whole.
        seconds: middle of its runs, the profiler's own cost taken off.
        reference_s: median of the reference kernel at that time.
        operator: what ran, or None for the network as a whole.
        since_bytes: moved since its largest input was made; None in files of releases that did not say.
    """

    composite: str
    node: str
    seconds: float
    reference_s: float
    operator: Operator | None
    since_bytes: int | None = None


def sample_model(
    name: str,
    model: onnx.ModelProto,
    runtime: Runtime,
    overhead: CallOverhead,
    reference: Reference,
    feeds: Feeds | None = None,
    *,
    runs: int = RUNS,
) -> list[Sample]:
    """Time a model as a whole and by node, as deployed: on the graph that onnxruntime's optimiser writes of it.

    Returns:
        Every node that runs and whose shapes are known, then the whole (node ""): the mark that a file's rows of it
        are complete.
    """
    deployed = deployed_model(model, runtime)
    plain = Runtime(runtime.provider, runtime.threads, "disabled")
    data = deployed.SerializeToString()
    given = feeds_for(open_session(data, plain)) if feeds is None else feeds
    whole, times, timing = _timed(data, plain, given, reference, runs)
    samples: list[Sample] = []
    shapes = {key: array.shape for key, array in given.items()}
    position = {node: index for index, node in enumerate(times)}  # as they ran
    ran = [operator for operator in load(deployed, shapes=shapes).operators if operator.name in position]
    ran = sorted((operator for operator in ran if not operator.constant), key=lambda each: position[each.name])
    for operator, since_bytes in zip(ran, bytes_since(ran), strict=True):
        seconds = overhead.kernel_seconds(times[operator.name])
        samples.append(Sample(name, operator.name, seconds, timing.reference_s, operator, since_bytes))
    return [*samples, Sample(name, "", whole.seconds, whole.reference_s, None)]


def _timed(
    data: bytes, plain: Runtime, feeds: Feeds, reference: Reference, runs: int
) -> tuple[Timing, NodeSeconds, Timing]:
    """Runs of the whole, seconds of every node, and the runs under the profiler that these are from."""

    def run_whole(most: int, budget_s: float) -> Timing:
        session = open_session(data, plain)
        return time_runs(session, feeds, reference, least=LEAST_RUNS, most=most, budget_s=budget_s)

    def run_profiled(most: int, budget_s: float) -> tuple[NodeSeconds, Timing]:
        return node_seconds(data, plain, feeds, reference, runs=most, budget_s=budget_s)

    if plain.threads == 1:
        whole = run_whole(runs, RUNS_BUDGET_S)
        return whole, *agreed([run_profiled(*_share(runs, _PROFILES)) for _ in range(_PROFILES)])
    share = _share(runs, _PARTS)
    _, whole = sessions_until_agreed(lambda: run_whole(*share), lambda timing: timing)
    profiled, timing = sessions_until_agreed(lambda: run_profiled(*share), lambda each: each[1])
    return whole, profiled[0][0], timing


def _share(runs: int, sessions: int) -> tuple[int, float]:
    """Runs and seconds for each of several sessions: two have somewhat more together than one alone."""
    return max(LEAST_RUNS, 2 * runs // (1 + sessions)), 2 * RUNS_BUDGET_S / (1 + sessions)


def agreed(profiled: Sequence[tuple[dict[str, float], Timing]]) -> tuple[dict[str, float], Timing]:
    """Seconds of nodes on which sessions of one thread agree: their mean, or the lowest where one is far above it.

    At times a kernel is several times slower throughout a session, where its tensors came to lie badly in memory.
    """
    first = profiled[0][1]
    scaled = [
        {name: seconds * first.reference_s / timing.reference_s for name, seconds in times.items()}
        for times, timing in profiled
    ]
    result: dict[str, float] = {}
    for name in scaled[0]:
        several = [times[name] for times in scaled if name in times]
        apart = max(several) > _APART * min(several) and max(several) - min(several) > _APART_S
        result[name] = min(several) if apart else statistics.fmean(several)
    return result, first


def deployed_model(model: onnx.ModelProto, runtime: Runtime) -> onnx.ModelProto:
    """The graph that onnxruntime's optimiser writes of a model, its nodes uniquely named."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deployed.onnx"
        open_session(model.SerializeToString(), runtime, optimized=path)
        deployed = onnx.load(path)
    # Weights that a file also lists as inputs and that were folded away would be asked for as inputs.
    folded = {tensor.name for tensor in model.graph.initializer} - {
        tensor.name for tensor in deployed.graph.initializer
    }
    kept = [value for value in deployed.graph.input if value.name not in folded]
    del deployed.graph.input[:]
    deployed.graph.input.extend(kept)
    return uniquely_named(deployed)


def composite_name(seed: int) -> str:
    """The name of the composite of a seed."""
    return f"composite-{seed}"


def take_samples(seed: int, runtime: Runtime, overhead: CallOverhead, reference: Reference) -> list[Sample]:
    """Samples of the composite of a seed."""
    return sample_model(composite_name(seed), composite(seed), runtime, overhead, reference)


# --- the file ----------------------------------------------------------------------------------------------------


def append_samples(path: Path, samples: list[Sample]) -> None:
    """Add the samples of one composite to a file, all or none, and flush it to disk."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not path.exists():
        writer.writerow(COLUMNS)
    for sample in samples:
        record = "" if sample.operator is None else json.dumps(_record(sample), separators=(",", ":"))
        numbers = (f"{sample.seconds:.4g}", f"{sample.reference_s:.5g}")
        writer.writerow((sample.composite, sample.node, *numbers, record))
    with path.open("a", encoding="utf-8") as stream:
        stream.write(text.getvalue())
        stream.flush()
        os.fsync(stream.fileno())


def read_samples(path: Path) -> Iterator[Sample]:
    """The samples of a file."""
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            record = json.loads(row["operator"]) if row["operator"] else None
            operator = None if record is None else operator_from_record(row["node"], record)
            since_bytes = None if record is None else record.get("since")
            numbers = (float(row["seconds"]), float(row["reference_s"]))
            yield Sample(row["composite"], row["node"], *numbers, operator, since_bytes)


def _record(sample: Sample) -> dict[str, Any]:
    """The operator of a sample, and how long ago its input was made where that is known."""
    record = {} if sample.operator is None else operator_record(sample.operator)
    return record if sample.since_bytes is None else {**record, "since": sample.since_bytes}


def operator_record(operator: Operator) -> dict[str, Any]:
    """What of an operator a price can depend on, as JSON."""
    return {
        "op": operator.op_type,
        "domain": operator.domain,
        "version": operator.version,
        "in": [_tensor_record(tensor) for tensor in operator.inputs],
        "out": [_tensor_record(tensor) for tensor in operator.outputs],
        "attributes": {
            key: _plain(value) for key, value in sorted(operator.attributes.items()) if _plain(value) is not None
        },
    }


def _tensor_record(tensor: Tensor | None) -> list[Any] | None:
    if tensor is None:
        return None
    record: list[Any] = [tensor.dtype.label, tensor.shape]
    if tensor.constant:
        record.append(_value_record(tensor.value))
    if tensor.quantized is not None:
        record.append({"quantized": tensor.quantized.label})
    return record


def _value_record(value: NDArray[Any] | None) -> object:
    """Elements that are few, the one element of a scalar or of a tensor that holds it throughout, else 1.

    Zero points are such: a rule charges nothing for those that are zero.
    """
    if value is None or value.dtype.kind not in "iuf" or not value.size:
        return 1
    if value.ndim and value.size <= _SMALL:
        return value.tolist()
    return {"all": value.flat[0].item()} if (value == value.flat[0]).all() else 1


def _plain(value: object) -> object:
    if isinstance(value, (int, float, str)):
        return value
    if isinstance(value, (tuple, list)) and all(isinstance(item, (int, float, str)) for item in value):
        return list(value)
    return None


_DTYPES = {dtype.label: dtype for dtype in DType}


def operator_from_record(name: str, record: Mapping[str, Any]) -> Operator:
    """The operator that `operator_record` wrote."""
    return Operator(
        name=name,
        op_type=record["op"],
        domain=record["domain"],
        version=record["version"],
        inputs=tuple(_tensor(f"{name}.in{index}", entry) for index, entry in enumerate(record["in"])),
        outputs=tuple(_tensor(f"{name}.out{index}", entry) for index, entry in enumerate(record["out"])),
        attributes={
            key: tuple(value) if isinstance(value, list) else value for key, value in record["attributes"].items()
        },
    )


def _tensor(name: str, entry: list[Any] | None) -> Tensor | None:
    if entry is None:
        return None
    dtype, shape, *rest = entry
    quantized = None
    if rest and isinstance(rest[-1], dict) and "quantized" in rest[-1]:
        quantized = _DTYPES[rest.pop()["quantized"]]
    value = None
    if rest and isinstance(rest[0], dict):
        value = np.full(shape, rest[0]["all"])
    elif rest and (isinstance(rest[0], (list, float)) or rest[0] == 0):  # scalars as they once were
        value = np.asarray(rest[0])
    sizes = None if shape is None else tuple(shape)
    return Tensor(name, _DTYPES[dtype], sizes, value, bool(rest), quantized)
