"""Energy and time of an inference: counts and bytes of every node, priced by a hardware profile.

For a node n of family c, with TO(n, d) transistor operations in data type d and B(n) bytes read and written:

    seconds(n) = seconds_per_node x repeats + max(sum_d TO(n, d) x s[c, d], B(n) x m)
    joules(n)  = sum_d TO(n, d) x k[c, d]  +  8 B(n) x g  +  static_watts x seconds(n) / utilization

A run adds seconds_per_run, and the static power during it. The three terms are E_comp, E_data and the static part of
C_sys of AIWQ (eq. 12, 13, 15). All are at the scope of the profile (the component, unless it says otherwise); what a
data centre adds, the (PUE - 1) share of C_sys, is in `onnx_aiwq.metrics.workload` and in the carbon footprint, never
here.

A profile that was calibrated on a runtime has more: its kernels (`onnx_aiwq.deployed`). Then the seconds of a node are
those of the kernels that the runtime deploys for it, and at dynamic_watts above the static power while it works

    joules(n)  = seconds(n) x (dynamic_watts + static_watts / utilization)

of which E_comp is what transistor operations take of the dynamic part, E_data what bytes take, and C_sys the rest.
Costs that are not those of the forward pass (a training step, another type) scale a node's seconds as the first formula
does.

Utilization is the share of its powered time that the hardware does this work; each run pays for its part of the rest.
Unknown is never zero: where nodes run and none of them has a price, every number of the estimate is None.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from onnx_aiwq.deployed import DeployedTimes, deployed_times
from onnx_aiwq.errors import ModelError, PolicyError
from onnx_aiwq.hardware_profile import Factors, HardwareProfile
from onnx_aiwq.operations.counting import NodeCost, Status
from onnx_aiwq.transistors import by_dtype, transistor_cost
from onnx_aiwq.units import BITS_PER_BYTE, BOLTZMANN_J_PER_K
from onnx_aiwq.vocabulary import BasicOp, Counts

if TYPE_CHECKING:
    from onnx_aiwq.graph import Graph

DEFAULT_TEMPERATURE_K = 300.0
_LARGEST_COUNT = 10**100  # far beyond any network; above it floats overflow sooner or later
_INEXACT_SHARE = 0.05  # of the seconds in kernels that a profile has not met: worth a word
DEFAULT_NEGATIVE_SHARE = 0.5
"""f of AIWQ's ReLU loss f n i_r: the share of its inputs that are negative; it depends on data, half unless given."""
LANDAUER_CONVENTION = (
    "bits lost: n for add, sub, mul and div of n-bit operands, 2n - 1 for a compare, f n for a compare of a Relu (f "
    "the share of negative inputs), 5 k n for a root (k Newton steps of 4 mul and 1 sub); a floor for the count, not a "
    "measurement"
)


class NodeEnergy(msgspec.Struct, frozen=True):
    """Energy and time of one node, its repeats included.

    Attributes:
        name: of the node.
        joules: compute + data + system, J.
        seconds: s.
        compute_j: arithmetic, J (AIWQ E_comp).
        data_j: bytes moved, J (AIWQ E_data).
        system_j: static power during the node, J (AIWQ C_sys).

    All five numbers are None where the node has no price: unsupported, or with a shape that is unknown.
    """

    name: str
    joules: float | None
    seconds: float | None
    compute_j: float | None
    data_j: float | None
    system_j: float | None


class EnergyEstimate(msgspec.Struct, frozen=True):
    """Energy and time of one inference on one hardware, with an interval.

    Attributes:
        hardware: id of the profile.
        provider: onnxruntime execution provider of the profile, or None.
        source: how the joules were obtained: measured, modelled, replayed or datasheet.
        nodes: in the order of the costs.
        joules: of the whole run, J; nodes without a price are left out and named in `unpriced`.
        joules_low: low end of the interval, J.
        joules_high: high end of the interval, J.
        seconds: of the whole run, s.
        seconds_low: low end of the interval, s.
        seconds_high: high end of the interval, s.
        interval: level of the interval (0.90: nine cases in ten).
        compute_j: arithmetic, J.
        data_j: bytes moved, J.
        system_j: static power x seconds, J.
        landauer_j: Landauer bound of the same operations, J, by `LANDAUER_CONVENTION`.
        eta_comp: compute_j / landauer_j (AIWQ eq. 12), None where nothing is computed.
        unpriced: names of the nodes that no number here includes.
        temperature_k: of the Landauer bound, K.
        utilization: share of its powered time that the hardware does this work.
        held_out_error: median share by which seconds of networks that took no part in the profile's fit were off; None
            for a profile without a fit.
        notes: what a reader of the figures has to know.

    From `joules` to `eta_comp` all are None where nodes run and none of them has a price.
    """

    hardware: str
    provider: str | None
    source: str
    nodes: tuple[NodeEnergy, ...]
    joules: float | None
    joules_low: float | None
    joules_high: float | None
    seconds: float | None
    seconds_low: float | None
    seconds_high: float | None
    interval: float
    compute_j: float | None
    data_j: float | None
    system_j: float | None
    landauer_j: float | None
    eta_comp: float | None
    unpriced: tuple[str, ...]
    temperature_k: float = DEFAULT_TEMPERATURE_K
    utilization: float = 1.0
    held_out_error: float | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The ``energy`` object of the JSON report."""
        keys = (
            "hardware provider source joules joules_low joules_high seconds seconds_low seconds_high interval "
            "compute_j data_j system_j landauer_j eta_comp temperature_k utilization "
            "held_out_error"
        )
        return {key: getattr(self, key) for key in keys.split()}


def estimate(
    costs: Sequence[NodeCost],
    profile: HardwareProfile,
    *,
    temperature_k: float = DEFAULT_TEMPERATURE_K,
    utilization: float = 1.0,
    negative_share: float = DEFAULT_NEGATIVE_SHARE,
    graph: Graph | None = None,
    forward_pass: bool = False,
) -> EnergyEstimate:
    """Price every node and the run.

    Args:
        costs: of one inference; counts and bytes include the repeats of each node.
        profile: the hardware.
        graph: that the costs are of; needed for the kernels of a calibrated profile, whose plain coefficients are used
            without it.
        forward_pass: whether the costs are those of one forward pass of the graph; they need not be compared with it.
        temperature_k: of the Landauer bound, K.
        utilization: share of its powered time that the hardware does this work, above 0 and at most 1.
        negative_share: of the inputs of a Relu, for the Landauer bound (f of AIWQ's f n i_r).

    Raises:
        ProfileError: if the profile has no coefficient for a family and data type that occur.
        UnsupportedOperatorError: if arithmetic is counted in a type without transistor counts.
        PolicyError: if the temperature, the utilization or the share is out of its range.
        ModelError: if a count is beyond what any number of joules can say.
    """
    check_shares(utilization, negative_share)
    bound_per_bit_j = landauer_joules_per_bit(temperature_k)
    _require_finite(costs)
    forward = costs if forward_pass else ()
    times = None if graph is None or profile.kernels is None else deployed_times(graph, profile.kernels, forward)
    if times is None:
        nodes = tuple(_node_energy(cost, profile, utilization) for cost in costs)
    else:
        nodes = tuple(_deployed_energy(cost, times, profile, utilization, forward_pass) for cost in costs)
    priced = [cost for cost, node in zip(costs, nodes, strict=True) if node.joules is not None and _runs(cost)]
    sums = _sums(nodes, profile, utilization) if priced or not any(map(_runs, costs)) else None
    landauer_j = math.fsum(bits * bound_per_bit_j for bits in _bits_lost_of_each(priced, negative_share))
    of_joules, of_seconds = _factors(profile, times)
    return EnergyEstimate(
        hardware=profile.id,
        provider=profile.provider,
        source=profile.source,
        nodes=nodes,
        joules=None if sums is None else sums.joules,
        joules_low=None if sums is None else sums.joules * of_joules.low_factor,
        joules_high=None if sums is None else sums.joules * of_joules.high_factor,
        seconds=None if sums is None else sums.seconds,
        seconds_low=None if sums is None else sums.seconds * of_seconds.low_factor,
        seconds_high=None if sums is None else sums.seconds * of_seconds.high_factor,
        interval=profile.interval.level,
        compute_j=None if sums is None else sums.compute_j,
        data_j=None if sums is None else sums.data_j,
        system_j=None if sums is None else sums.system_j,
        landauer_j=None if sums is None else landauer_j,
        eta_comp=None if sums is None or not landauer_j else sums.compute_j / landauer_j,
        unpriced=tuple(node.name for node in nodes if node.joules is None),
        temperature_k=temperature_k,
        utilization=utilization,
        held_out_error=None if times is None else _held_out(profile),
        notes=() if times is None else _notes(times, profile),
    )


def _factors(profile: HardwareProfile, times: DeployedTimes | None) -> tuple[Factors, Factors]:
    """Intervals of joules and seconds as factors; that of the watts and that of the seconds are independent."""
    if times is None:
        return profile.interval.joules, profile.interval.seconds
    level = profile.interval.level
    off = statistics.NormalDist().inv_cdf((1 + level) / 2) * times.log_error
    watts = profile.watts_interval
    low, high = (1.0, 1.0) if watts is None else (watts.low_factor, watts.high_factor)
    basis = f"{times.kernels} kernels, errors held out by kind"
    seconds = Factors(low_factor=math.exp(-off), high_factor=math.exp(off), basis=basis)
    joules = Factors(
        low_factor=math.exp(-math.hypot(off, math.log(low))),
        high_factor=math.exp(math.hypot(off, math.log(high))),
        basis=basis if watts is None else f"{basis}; watts: {watts.basis}",
    )
    return joules, seconds


def _held_out(profile: HardwareProfile) -> float | None:
    """Of real networks where the profile was validated on some, else of composites."""
    found = profile.validation or {}
    error = found.get("networks, exported: median_error", found.get("median_error"))
    return float(error) if isinstance(error, (int, float)) else None


def _notes(times: DeployedTimes, profile: HardwareProfile) -> tuple[str, ...]:
    lowering = (times.note,) if times.note else ()
    if times.inexact_share < _INEXACT_SHARE:
        return lowering
    return (
        *lowering,
        f"{times.inexact_share:.0%} of the time is in kernels that profile {profile.id!r} was not calibrated on; "
        "wider classes stand in for them, and the interval is wider",
    )


class _Sums(msgspec.Struct, frozen=True):
    compute_j: float
    data_j: float
    system_j: float
    seconds: float

    @property
    def joules(self) -> float:
        return self.compute_j + self.data_j + self.system_j


def _sums(nodes: Sequence[NodeEnergy], profile: HardwareProfile, utilization: float) -> _Sums:
    """The whole run: the nodes that have a price, and the overhead of a run."""
    run_s = profile.seconds_per_run or 0.0
    # Between kernels no arithmetic is told apart: what a run takes beyond its nodes is the system's.
    run_j = run_s * (profile.static_watts / utilization + (profile.dynamic_watts or 0.0))
    return _Sums(
        compute_j=math.fsum(node.compute_j for node in nodes if node.compute_j is not None),
        data_j=math.fsum(node.data_j for node in nodes if node.data_j is not None),
        system_j=math.fsum(node.system_j for node in nodes if node.system_j is not None) + run_j,
        seconds=math.fsum(node.seconds for node in nodes if node.seconds is not None) + run_s,
    )


def check_shares(utilization: float, negative_share: float) -> None:
    """Raise `PolicyError` for a utilization that is not above 0 and at most 1, or a share that is not from 0 to 1."""
    if not 0 < utilization <= 1:
        raise PolicyError(
            f"utilization {utilization:g}: expected the share of its powered time that the hardware works, above 0 and "
            "at most 1, for example 0.3"
        )
    if not 0 <= negative_share <= 1:
        raise PolicyError(f"negative share {negative_share:g}: expected the share of negative Relu inputs, from 0 to 1")


def _require_finite(costs: Sequence[NodeCost]) -> None:
    for cost in costs:
        if cost.like is not None or not _runs(cost):
            continue
        counts = () if cost.counts is None else cost.counts.operations.values()
        if max(cost.operator.repeats, cost.bytes_read or 0, cost.bytes_written or 0, *counts) > _LARGEST_COUNT:
            name = cost.operator.name
            raise ModelError(f"node {name!r}: its counts exceed {_LARGEST_COUNT:.0e}; check its shapes and trip counts")


def _runs(cost: NodeCost) -> bool:
    return cost.status is not Status.CONSTANT


def _node_energy(cost: NodeCost, profile: HardwareProfile, utilization: float) -> NodeEnergy:
    name = cost.operator.name
    if not _runs(cost):
        return NodeEnergy(name, 0.0, 0.0, 0.0, 0.0, 0.0)
    unpriced = cost.status is Status.UNSUPPORTED or cost.counts is None
    if unpriced or cost.bytes_read is None or cost.bytes_written is None:
        return NodeEnergy(name, None, None, None, None, None)
    moved_bytes = cost.bytes_read + cost.bytes_written
    by_type = by_dtype(cost.counts or Counts())
    compute_j = compute_s = 0.0
    for dtype, transistors in by_type.items():
        coefficient = profile.coefficient(cost.family, dtype)
        compute_j += transistors * coefficient.joules_per_to
        compute_s += transistors * coefficient.seconds_per_to
    data_j = moved_bytes * BITS_PER_BYTE * profile.joules_per_bit
    overhead_s = (profile.seconds_per_node or 0.0) * cost.operator.repeats
    seconds = overhead_s + max(compute_s, moved_bytes * profile.seconds_per_byte)
    system_j = profile.static_watts * seconds / utilization
    return NodeEnergy(name, compute_j + data_j + system_j, seconds, compute_j, data_j, system_j)


def _deployed_energy(
    cost: NodeCost, times: DeployedTimes, profile: HardwareProfile, utilization: float, forward_pass: bool
) -> NodeEnergy:
    """A node at the seconds of its kernels; where its costs are not those of the forward pass, scaled to them."""
    name = cost.operator.name
    if not _runs(cost):
        return NodeEnergy(name, 0.0, 0.0, 0.0, 0.0, 0.0)
    if cost.status is Status.UNSUPPORTED or cost.counts is None or name in times.unpriced:
        return NodeEnergy(name, None, None, None, None, None)
    forward = cost if forward_pass else times.forward.get(name)
    if forward is None:  # a loss or an optimiser step, that no forward pass has
        return _node_energy(cost, profile, utilization)
    scale = 1.0 if forward is cost or forward == cost else _scale(cost, forward, profile, utilization)
    time = times.nodes.get(name)
    if time is None:
        return NodeEnergy(name, 0.0, 0.0, 0.0, 0.0, 0.0)
    watts = profile.dynamic_watts or 0.0
    seconds, compute_s, data_s = time.seconds * scale, time.compute_s * scale, time.data_s * scale
    compute_j, data_j = watts * compute_s, watts * data_s
    system_j = watts * (seconds - compute_s - data_s) + profile.static_watts * seconds / utilization
    return NodeEnergy(name, compute_j + data_j + system_j, seconds, compute_j, data_j, system_j)


def _scale(cost: NodeCost, forward: NodeCost, profile: HardwareProfile, utilization: float) -> float:
    """Seconds of other costs of a node over those of its forward pass, by the profile's plain coefficients."""
    other, usual = (_node_energy(each, profile, utilization).seconds for each in (cost, forward))
    return 1.0 if not other or not usual else other / usual


def bits_lost(counts: Counts) -> int:
    """Bits that the counted operations lose irreversibly, I(o) of AIWQ eq. 2, by `LANDAUER_CONVENTION`.

    A binary operation maps 2n bits to n; a compare maps 2n to 1; a root is charged the losses of the operations that it
    is simulated with, k (4 mul + sub), so 5 k n (k of the type from the TO table). A bool operand carries 1 bit.

    Raises:
        UnsupportedOperatorError: if a type that is counted has no transistor counts.
    """
    total = 0
    for (dtype, op), number in counts.operations.items():
        cost = transistor_cost(dtype)
        if op is BasicOp.COMPARE:
            lost = 2 * cost.width_bits - 1
        elif op is BasicOp.ROOT:
            lost = 5 * cost.newton_steps * cost.width_bits
        else:
            lost = cost.width_bits
        total += number * lost
    return total


def _bits_lost_of_each(costs: Iterable[NodeCost], negative_share: float) -> Iterator[float]:
    """`_bits_lost_of` every node; those that were counted as one have it computed once."""
    known: dict[int, float] = {}
    for cost in costs:
        first = cost.like or cost
        bits = known.get(id(first))
        if bits is None:
            bits = known[id(first)] = _bits_lost_of(cost, negative_share)
        yield bits


def _bits_lost_of(cost: NodeCost, negative_share: float) -> float:
    """`bits_lost` of a node; a Relu loses the n bits of negative inputs, f n i_r of AIWQ, not a compare's 2n - 1."""
    counts = cost.counts or Counts()
    if cost.operator.op_type != "Relu" or cost.operator.domain:
        return bits_lost(counts)
    compared = {dtype: number for (dtype, op), number in counts.operations.items() if op is BasicOp.COMPARE}
    rest = bits_lost(counts.without(BasicOp.COMPARE))
    return rest + negative_share * sum(number * transistor_cost(dtype).width_bits for dtype, number in compared.items())


@functools.cache
def landauer_joules_per_bit(temperature_k: float = DEFAULT_TEMPERATURE_K) -> float:
    """k T ln 2, the least energy of losing one bit, J (Landauer; AIWQ eq. 2).

    Raises:
        PolicyError: if the temperature is not a positive number.
    """
    if not (math.isfinite(temperature_k) and temperature_k > 0):
        raise PolicyError(f"temperature {temperature_k} K: expected a positive number of kelvin, for example 300")
    return BOLTZMANN_J_PER_K * temperature_k * math.log(2)


def landauer_joules(counts: Counts, temperature_k: float = DEFAULT_TEMPERATURE_K) -> float:
    """Landauer bound of the counted operations, J: `bits_lost` x k T ln 2 (AIWQ eq. 2, 6).

    Raises:
        PolicyError: if the temperature is not a positive number.
        UnsupportedOperatorError: if a type that is counted has no transistor counts.
    """
    return bits_lost(counts) * landauer_joules_per_bit(temperature_k)
