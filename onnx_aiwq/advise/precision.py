"""Levers of precision: another float type, or quantised dense products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from onnx_aiwq.advise.levers import ACCURACY, Case, Figures, Lever
from onnx_aiwq.datasheets import DENSE_FAMILIES
from onnx_aiwq.errors import UnsupportedOperatorError
from onnx_aiwq.hardware_profile import ANY, HardwareProfile
from onnx_aiwq.operations.counting import NodeCost, Status
from onnx_aiwq.report import Report
from onnx_aiwq.units import BITS_PER_BYTE
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor

FLOAT_TARGETS = (DType.FLOAT16, DType.BFLOAT16)
INTEGER_TARGETS = (DType.INT8, DType.INT4)
_REAL = frozenset({DType.FLOAT, DType.FLOAT16, DType.BFLOAT16, DType.DOUBLE})
_OPERANDS = 2  # the first two inputs of a dense product


def precision_levers(case: Case) -> Iterator[Lever]:
    """Every float32 tensor in a narrower float type, and dense products on integers."""
    present = {dtype for cost in case.report.costs for dtype in (cost.counts or Counts()).dtypes}
    for target in (*FLOAT_TARGETS, *INTEGER_TARGETS):
        change = f"float32 to {target.label}"
        if DType.FLOAT not in present:
            yield case.impossible("precision", change, "the model computes nothing in float32")
            continue
        yield _to_float(case, target, change) if target.is_float else _to_integer(case, target, change)


def _to_float(case: Case, target: DType, change: str) -> Lever:
    """Every float32 tensor in the target type, and the rules asked again."""

    def changed(tensor: Tensor | None) -> Tensor | None:
        return replace(tensor, dtype=target) if tensor is not None and tensor.dtype is DType.FLOAT else tensor

    graph = case.report.graph
    operators = tuple(
        replace(op, inputs=tuple(map(changed, op.inputs)), outputs=tuple(map(changed, op.outputs)))
        for op in graph.operators
    )
    stored = sum(tensor.size_bytes or 0 for each in graph.parameters if (tensor := changed(each)) is not None)

    def after() -> Figures:
        costs = case.report.count(replace(graph, operators=operators))
        _require_same_coverage(case.report.costs, costs)
        return case.price(costs=costs, stored=stored)

    return case.lever(
        "precision",
        change,
        after,
        assumes=(
            "every float32 tensor, weights and activations, is of the new type; no casts are added",
            "eCAL stays per bit of the inputs as they are now",
            _coefficient_note(case.deployment.profile, target),
            *case.life_cycle_note,
        ),
        unknown=(ACCURACY,),
    )


def _require_same_coverage(before: Sequence[NodeCost], after: Sequence[NodeCost]) -> None:
    lost = sum(cost.status is Status.UNSUPPORTED for cost in after)
    if lost > sum(cost.status is Status.UNSUPPORTED for cost in before):
        reason = next(cost.reason for cost in after if cost.status is Status.UNSUPPORTED)
        raise UnsupportedOperatorError(f"operators that were counted have no count in that type: {reason}")


def _coefficient_note(profile: HardwareProfile, target: DType) -> str:
    used = profile.coefficient(DENSE_FAMILIES[0], target)
    note = f"dense products are priced by the profile's coefficient for family {used.family}, data type {used.dtype}"
    if used.dtype == ANY:
        note += f": it has none for {target.label}, so the saving is that of the transistor count"
    return note


def _to_integer(case: Case, target: DType, change: str) -> Lever:
    """Operands of dense products at the integer width with int32 sums, by the rules for quantised products."""
    profile = case.deployment.profile
    computed = _arithmetic_type(profile, target)
    costs, saved_bytes, kept = _integer_costs(case.report, target, computed)
    if len(kept) == sum(map(is_dense, case.report.costs)):
        return case.impossible("precision", change, "no dense product in a real type that has a quantised form")
    assumes = [
        f"dense products multiply {computed.label} operands and sum in int32; all other operators stay as they are",
        "quantising activations and scaling results is fused and not charged; results are written in the old type",
        _coefficient_note(profile, computed),
        *case.life_cycle_note,
    ]
    if computed is not target:
        assumes.append(f"the profile has no coefficient for {target.label}: it is only stored, and unpacked for free")
    if kept:
        assumes.append(f"{len(kept)} dense nodes stay as they are: {', '.join(sorted(set(kept)))}")
    return case.lever(
        "precision",
        change,
        lambda: case.price(costs=costs, stored=max(case.stored - saved_bytes, 0)),
        assumes=tuple(assumes),
        unknown=(ACCURACY, f"whether the runtime has kernels for {target.label}"),
        details={"arithmetic": computed.label, "storage": target.label},
    )


def _arithmetic_type(profile: HardwareProfile, target: DType) -> DType:
    """int8 where the profile has a coefficient for it and none for the narrower type, which is then unpacked."""
    dense = DENSE_FAMILIES[0]
    unpriced = profile.coefficient(dense, target).dtype == ANY
    return DType.INT8 if unpriced and profile.coefficient(dense, DType.INT8).dtype != ANY else target


def _integer_costs(report: Report, target: DType, computed: DType) -> tuple[list[NodeCost], int, list[str]]:
    """Costs with quantised products, bytes that the weights get smaller by, and dense operators that stay."""
    dense = {cost.operator.name for cost in report.costs if is_dense(cost)}
    operators = (_quantised(op, computed) if op.name in dense else op for op in report.graph.operators)
    recounted = report.count(replace(report.graph, operators=tuple(operators)))
    by_name = {cost.operator.name: cost for cost in recounted}  # a cheaper product may change which branch counts
    costs: list[NodeCost] = []
    weights: dict[str, int] = {}
    kept: list[str] = []
    for old in report.costs:
        new = by_name.get(old.operator.name, old)
        if computed not in (new.counts or Counts()).dtypes or old.counts == new.counts:
            costs.append(old)
            kept += [old.operator.op_type] if is_dense(old) else []
            continue
        saved = {each.name: _narrowed(each, target) for each in _real_operands(old.operator)}
        weights |= {each.name: saved[each.name] for each in weights_of(old.operator) if each.name in saved}
        read = None if old.bytes_read is None else old.bytes_read - sum(saved.values()) * old.operator.repeats
        costs.append(replace(old, counts=new.counts, bytes_read=read))
    return costs, sum(weights.values()), kept


def is_dense(cost: NodeCost) -> bool:
    """Whether a node multiplies and accumulates."""
    return cost.family in DENSE_FAMILIES and cost.status is Status.COUNTED and bool(cost.counts and cost.counts.macs)


def _real_operands(op: Operator) -> list[Tensor]:
    operands = {each.name: each for each in op.inputs[:_OPERANDS] if each is not None and each.dtype in _REAL}
    return list(operands.values())


def _quantised(op: Operator, target: DType) -> Operator:
    """The operator with its real operands marked as dequantised from the target type; quantised ones stay."""
    operands = {each.name for each in _real_operands(op)}
    if all(each.quantized is not None for each in _real_operands(op)):
        return op
    marked = (
        replace(each, quantized=target) if each is not None and each.name in operands else each for each in op.inputs
    )
    return replace(op, inputs=tuple(marked))


def _narrowed(tensor: Tensor, target: DType) -> int:
    """Bytes that a tensor gets smaller by."""
    return (tensor.size_bytes or 0) - ((tensor.size or 0) * target.bits + BITS_PER_BYTE - 1) // BITS_PER_BYTE


def weights_of(op: Operator) -> list[Tensor]:
    """Constant tensors of at least two dimensions that a node reads, each once."""
    found = {each.name: each for each in op.inputs if each is not None and each.constant and (each.rank or 0) > 1}
    return list(found.values())
