"""Energy and time of an inference: counts and bytes of every node, priced by a hardware profile.

For a node n of family c, with TO(n, d) transistor operations in data type d and B(n) bytes read and written:

    seconds(n) = seconds_per_node x repeats + max(sum_d TO(n, d) x s[c, d], B(n) x m)
    joules(n)  = sum_d TO(n, d) x k[c, d]  +  8 B(n) x g  +  static_watts x seconds(n)

A run adds seconds_per_run, and the static power during it. The three terms are E_comp, E_data and C_sys of AIWQ
(eq. 12, 13, 15; PUE is applied to the carbon footprint only), and their sum is the resource cost C_AI (eq. 16).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx_aiwq.errors import ModelError, PolicyError
from onnx_aiwq.operations.counting import NodeCost, Status
from onnx_aiwq.transistors import by_dtype, transistor_cost
from onnx_aiwq.units import BITS_PER_BYTE, BOLTZMANN_J_PER_K
from onnx_aiwq.vocabulary import BasicOp, Counts

if TYPE_CHECKING:
    from onnx_aiwq.profiles import HardwareProfile

DEFAULT_TEMPERATURE_K = 300.0
_LARGEST_COUNT = 10**100  # far beyond any network; above it floats overflow sooner or later
LANDAUER_CONVENTION = (
    "bits lost: n for add, sub, mul and div of n-bit operands, 2n - 1 for a compare, 5 k n for a root (k Newton steps "
    "of 4 mul and 1 sub); a floor for the count, not a measurement"
)


@dataclass(frozen=True, slots=True)
class NodeEnergy:
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


@dataclass(frozen=True, slots=True)
class EnergyEstimate:
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
    """

    hardware: str
    provider: str | None
    source: str
    nodes: tuple[NodeEnergy, ...]
    joules: float
    joules_low: float
    joules_high: float
    seconds: float
    seconds_low: float
    seconds_high: float
    interval: float
    compute_j: float
    data_j: float
    system_j: float
    landauer_j: float
    eta_comp: float | None
    unpriced: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """The ``energy`` object of the JSON report."""
        keys = (
            "hardware provider source joules joules_low joules_high seconds seconds_low seconds_high interval "
            "compute_j data_j system_j landauer_j eta_comp"
        )
        return {key: getattr(self, key) for key in keys.split()}


def estimate(
    costs: Sequence[NodeCost], profile: HardwareProfile, *, temperature_k: float = DEFAULT_TEMPERATURE_K
) -> EnergyEstimate:
    """Price every node and the run.

    Args:
        costs: of one inference; counts and bytes include the repeats of each node.
        profile: the hardware.
        temperature_k: of the Landauer bound, K.

    Raises:
        ProfileError: if the profile has no coefficient for a family and data type that occur.
        UnsupportedOperatorError: if arithmetic is counted in a type without transistor counts.
        PolicyError: if the temperature is not a positive number.
        ModelError: if a count is beyond what any number of joules can say.
    """
    nodes = tuple(_node_energy(cost, profile) for cost in costs)
    compute_j = math.fsum(node.compute_j for node in nodes if node.compute_j is not None)
    data_j = math.fsum(node.data_j for node in nodes if node.data_j is not None)
    seconds = math.fsum(node.seconds for node in nodes if node.seconds is not None) + (profile.seconds_per_run or 0.0)
    system_j = profile.static_watts * seconds
    joules = compute_j + data_j + system_j
    priced = [cost for cost, node in zip(costs, nodes, strict=True) if node.joules is not None and _runs(cost)]
    landauer_j = math.fsum(landauer_joules(cost.counts, temperature_k) for cost in priced if cost.counts is not None)
    of_joules, of_seconds = profile.interval.joules, profile.interval.seconds
    return EnergyEstimate(
        hardware=profile.id,
        provider=profile.provider,
        source=profile.source,
        nodes=nodes,
        joules=joules,
        joules_low=joules * of_joules.low_factor,
        joules_high=joules * of_joules.high_factor,
        seconds=seconds,
        seconds_low=seconds * of_seconds.low_factor,
        seconds_high=seconds * of_seconds.high_factor,
        interval=profile.interval.level,
        compute_j=compute_j,
        data_j=data_j,
        system_j=system_j,
        landauer_j=landauer_j,
        eta_comp=compute_j / landauer_j if landauer_j > 0 else None,
        unpriced=tuple(node.name for node in nodes if node.joules is None),
    )


def _runs(cost: NodeCost) -> bool:
    return cost.status is not Status.CONSTANT


def _node_energy(cost: NodeCost, profile: HardwareProfile) -> NodeEnergy:
    name = cost.operator.name
    if not _runs(cost):
        return NodeEnergy(name, 0.0, 0.0, 0.0, 0.0, 0.0)
    unpriced = cost.status is Status.UNSUPPORTED or cost.counts is None
    if unpriced or cost.bytes_read is None or cost.bytes_written is None:
        return NodeEnergy(name, None, None, None, None, None)
    moved_bytes = cost.bytes_read + cost.bytes_written
    by_type = by_dtype(cost.counts or Counts())
    if max(moved_bytes, cost.operator.repeats, *by_type.values(), 0) > _LARGEST_COUNT:
        raise ModelError(f"node {name!r}: its counts exceed {_LARGEST_COUNT:.0e}; check its shapes and trip counts")
    compute_j = compute_s = 0.0
    for dtype, transistors in by_type.items():
        coefficient = profile.coefficient(cost.family, dtype)
        compute_j += transistors * coefficient.joules_per_to
        compute_s += transistors * coefficient.seconds_per_to
    data_j = moved_bytes * BITS_PER_BYTE * profile.joules_per_bit
    overhead_s = (profile.seconds_per_node or 0.0) * cost.operator.repeats
    seconds = overhead_s + max(compute_s, moved_bytes * profile.seconds_per_byte)
    system_j = profile.static_watts * seconds
    return NodeEnergy(name, compute_j + data_j + system_j, seconds, compute_j, data_j, system_j)


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
