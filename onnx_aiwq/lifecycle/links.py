"""Data collection: energy of sending bits over hops with a protocol stack each (eCAL eq. 3 and 4), and of storage.

As the authors published it (the default), a payload of B_0 bits grows from layer to layer, and each charges all terms:

    B_l  = B_(l-1) + int(B_(l-1) o_data) + int(B_(l-1) o_control)                application, ..., physical
    E    = sum_l B_l (e_send + e_receive + N_device P_device + N_gateway P_gateway) / (1 - p_failure)

Equation 3 charges sending and receiving at the physical layer alone and processing at the six above. int cuts to whole
bits. Several hops add up (eq. 4); the authors feed each with the original payload, and an inference the last one only.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib import resources
from typing import Literal

from onnx_aiwq.errors import PolicyError, suggestion

LAYERS = ("application", "presentation", "session", "transport", "network", "datalink", "physical")
GENERIC = "generic"
LayerTerms = Literal["every_layer", "equation_3"]
HopPayload = Literal["original", "chained"]


@dataclass(frozen=True, slots=True)
class Protocol:
    """One layer of a stack.

    Attributes:
        name: of the protocol.
        layer: one of `LAYERS`.
        data_overhead: o_d, bits added per bit.
        control_overhead: o_c, likewise for control.
        send_j_per_bit: e_s, J/bit.
        receive_j_per_bit: e_r, J/bit.
        device_cycles_per_bit: N_dev.
        device_j_per_cycle: P_dev, J.
        gateway_cycles_per_bit: N_gw.
        gateway_j_per_cycle: P_gw, J.
        source: of the figures.
    """

    name: str
    layer: str
    data_overhead: float
    control_overhead: float
    send_j_per_bit: float
    receive_j_per_bit: float
    device_cycles_per_bit: float
    device_j_per_cycle: float
    gateway_cycles_per_bit: float
    gateway_j_per_cycle: float
    source: str


@dataclass(frozen=True, slots=True)
class Link:
    """A hop: its stack, one protocol per layer from the application down, and the share of transmissions that fail."""

    stack: tuple[Protocol, ...]
    failure_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Coding:
    """The authors' coding choices; the defaults are what they published.

    Attributes:
        layer_terms: `every_layer` charges all terms at all layers, `equation_3` as the paper's equation says.
        hop_payload: `original` feeds each hop with the payload, `chained` with the bits that the hop before delivered.
        whole_bits: whether overhead is cut to whole bits.
    """

    layer_terms: LayerTerms = "every_layer"
    hop_payload: HopPayload = "original"
    whole_bits: bool = True


PUBLISHED = Coding()


@functools.cache
def known_protocols() -> dict[str, Protocol]:
    """The authors' protocols, by name."""
    text = (resources.files("onnx_aiwq") / "data" / "protocols.csv").read_text(encoding="utf-8")
    numbers = [field.name for field in fields(Protocol) if field.name not in ("name", "layer", "source")]
    return {
        row["name"]: Protocol(
            name=row["name"],
            layer=row["layer"],
            source=row["source"],
            **{number: float(row[number]) for number in numbers},
        )
        for row in csv.DictReader(text.splitlines())
    }


def stack_of(names: str | Sequence[str], own: Sequence[Protocol] = ()) -> tuple[Protocol, ...]:
    """The protocols of a stack, from the application down.

    Args:
        names: `generic` for the generic protocol of all seven layers, or names of protocols, one per layer at most; a
            layer that is not named is not there.
        own: protocols of the user's beside the known ones; they win.

    Raises:
        PolicyError: if a name is not known, or two protocols are of one layer.
    """
    if names == GENERIC:
        return tuple(known_protocols()[f"generic_{layer}"] for layer in LAYERS)
    protocols = {**known_protocols(), **{protocol.name: protocol for protocol in own}}
    by_fold = {name.casefold(): protocol for name, protocol in protocols.items()}
    found: dict[str, Protocol] = {}
    for name in [names] if isinstance(names, str) else names:
        protocol = by_fold.get(name.casefold())
        if protocol is None:
            near = suggestion(name, [GENERIC, *protocols])
            raise PolicyError(f"no protocol {name!r};{near} expected 'generic' or a list of {', '.join(protocols)}")
        if protocol.layer in found:
            raise PolicyError(
                f"protocols {found[protocol.layer].name!r} and {protocol.name!r} are both of the {protocol.layer} "
                "layer; name one protocol per layer"
            )
        found[protocol.layer] = protocol
    if not found:
        raise PolicyError("a stack without protocols; name them, or leave the hop out where data are local")
    return tuple(found[layer] for layer in LAYERS if layer in found)


def transmitted(payload_bits: float, link: Link, coding: Coding = PUBLISHED) -> tuple[float, float]:
    """Joules of sending a payload over a hop, and the bits that leave its lowest layer, retransmission included."""
    bits, joules = payload_bits, 0.0
    for protocol in link.stack:
        if coding.whole_bits:
            bits += int(bits * protocol.data_overhead) + int(bits * protocol.control_overhead)
        else:
            bits += bits * (protocol.data_overhead + protocol.control_overhead)
        # One product per term, as the authors' code does, so that sums agree to the last bit.
        sent = bits * protocol.send_j_per_bit + bits * protocol.receive_j_per_bit
        processed = bits * protocol.device_cycles_per_bit * protocol.device_j_per_cycle
        processed_at_gateway = bits * protocol.gateway_cycles_per_bit * protocol.gateway_j_per_cycle
        if coding.layer_terms == "every_layer":
            joules += sent + processed + processed_at_gateway
        else:
            joules += sent if protocol.layer == LAYERS[-1] else processed + processed_at_gateway
    attempts = 1 / (1 - link.failure_rate)
    return joules * attempts, bits * attempts


def collection_joules(payload_bits: int, links: Sequence[Link], coding: Coding = PUBLISHED) -> float:
    """Joules of sending a payload over several hops (eCAL eq. 4)."""
    joules, payload = 0.0, float(payload_bits) if not coding.whole_bits else payload_bits
    for link in links:
        spent, delivered = transmitted(payload, link, coding)
        joules += spent
        if coding.hop_payload == "chained":
            payload = int(delivered) if coding.whole_bits else delivered
    return joules


STORAGE_J_PER_BIT = {"ssd": 5.4e-10, "hdd": 2.92e-10}
"""1.2 and 0.65 Wh/TB: Storage.py of the authors' repository before commit 585ade5 (v1 of the paper; removed since)."""
RAID_MINIMUM_DISKS = {"none": 1, "raid0": 1, "raid1": 2, "raid5": 3, "raid6": 4, "raid10": 4}


def storage_joules(bits: int, medium: str, raid: str = "none", disks: int | None = None) -> float:
    """Joules of storing bits once, B r_RAID e; v1 of the paper, off by default.

    Raises:
        PolicyError: if the RAID level needs more disks.
    """
    least = RAID_MINIMUM_DISKS[raid]
    number = least if disks is None else disks
    if number < least:
        raise PolicyError(f"storage: {raid} needs at least {least} disks, found {number}")
    redundancy = {"none": 1.0, "raid0": 1.0, "raid1": 2.0, "raid10": 2.0}.get(raid)
    if redundancy is None:
        redundancy = number / (number - 1) if raid == "raid5" else 2.0 if number <= 4 else number / (number - 2)
    return bits * redundancy * STORAGE_J_PER_BIT[medium]
