"""Profiles of processors that nobody has run: derived from peak rate, bandwidth and TDP, with a wide interval.

The derivation is `derive_from_datasheet`, its assumptions are named constants, and its evidence is in the interval of
every such profile.
"""

from __future__ import annotations

import csv
import functools
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import cast

from onnx_aiwq.hardware_profile import (
    ANY,
    EMBODIED_LIFETIME_SOURCE,
    Coefficient,
    CompResFigures,
    Embodied,
    Factors,
    HardwareProfile,
    Interval,
    Kind,
    slug,
)
from onnx_aiwq.transistors import transistors_per_mac
from onnx_aiwq.units import BITS_PER_BYTE
from onnx_aiwq.vocabulary import DType

SUSTAINED_COMPUTE_SHARE = 0.25
"""Share of the peak rate that a network sustains, and `SUSTAINED_BANDWIDTH_SHARE` of the peak memory bandwidth: round
figures, chosen so that the median measured / predicted time of the evidence in `DATASHEET_INTERVAL` is near 1. a-eCAL
reports utilisations of 0.05 to 0.7."""
SUSTAINED_BANDWIDTH_SHARE = 0.5
IDLE_SHARES_OF_TDP = (3 / 22, 50 / 400, 100 / 700, 20 / 100, 2 / 15)
"""Idle watts / TDP of the hardware profiles of the eCAL package (ecal-energy 0.1.0): M2, A100, H100, CPU, edge."""
STATIC_SHARE_OF_TDP = statistics.median(IDLE_SHARES_OF_TDP)
MEMORY_SHARE_OF_DYNAMIC_POWER = 0.25
"""Share of the dynamic power that memory draws at its sustained rate: an assumption. It puts a moved bit at 7 to 89 pJ
over the shipped datasheets, controllers and on-chip network included; DRAM alone is given as 4 to 7 pJ (HBM2) and 20 pJ
(DDR) by Jouppi et al., ISCA 2021."""

DENSE_FAMILIES = ("dense", "recurrent")
"""Families whose arithmetic is matrix products, which matrix units serve."""


_NO_FIGURES = CompResFigures()


@dataclass(frozen=True, slots=True)
class Datasheet:
    """Published figures of one processor, as in ``data/hardware.csv`` and ``data/hardware_additions.csv``.

    Attributes:
        name: full name.
        kind: cpu, gpu, tpu, edge or accelerator.
        tdp_w: thermal design power, W (the package of a CPU, the board of a GPU, the module of an edge device).
        fp32_tflops: peak 1e12 FLOP/s in float32, two per multiply-accumulate.
        bandwidth_gb_s: peak memory bandwidth, 1e9 bytes/s.
        fp16_tensor_tflops: peak dense rate of matrix units in 16-bit floats, where given.
        int8_tops: peak dense 1e12 operations/s in int8, where given.
        cores: physical cores, where given.
        comp_res: figures for the workload score.
        embodied: greenhouse gas of making it, where published.
        sources: where the figures come from.
    """

    name: str
    kind: Kind
    tdp_w: float
    fp32_tflops: float
    bandwidth_gb_s: float
    fp16_tensor_tflops: float | None = None
    int8_tops: float | None = None
    cores: int | None = None
    comp_res: CompResFigures = _NO_FIGURES
    embodied: Embodied | None = None
    sources: tuple[str, ...] = ()


def derive_from_datasheet(sheet: Datasheet) -> HardwareProfile:
    """Derive a profile from published figures, without a run.

    1. Rate: a network sustains `SUSTAINED_COMPUTE_SHARE` of the peak, so MAC/s = peak FLOP/s / 2 x that share, and
       ``seconds_per_to = 1 / (MAC/s x TO per MAC)`` with the TO of the type (`onnx_aiwq.transistors`). Matrix products
       in float16 and bfloat16 run at the matrix units' rate, and those in int8 (with int32 accumulators) at the int8
       rate, where these are given; other operators, and these types without a rate of their own, run at the float32
       rate. Every other type ("*") takes the seconds per TO of float32.
    2. Memory: ``seconds_per_byte = 1 / (bandwidth x SUSTAINED_BANDWIDTH_SHARE)``.
    3. Power: static watts are `STATIC_SHARE_OF_TDP`. The rest is dynamic; memory draws
       `MEMORY_SHARE_OF_DYNAMIC_POWER` of it at its sustained rate and arithmetic draws the other part at its own, so
       that both at once draw exactly the TDP: ``joules_per_to = watts x seconds_per_to``, likewise per bit.
    4. Overheads per node and per run are unknown and not charged: small networks cost more than this says.
    """
    static_watts = sheet.tdp_w * STATIC_SHARE_OF_TDP
    memory_watts = (sheet.tdp_w - static_watts) * MEMORY_SHARE_OF_DYNAMIC_POWER
    compute_watts = sheet.tdp_w - static_watts - memory_watts
    seconds_per_byte = 1 / (sheet.bandwidth_gb_s * 1e9 * SUSTAINED_BANDWIDTH_SHARE)
    coefficients = tuple(
        Coefficient(
            family=family, dtype=dtype, seconds_per_to=seconds_per_to, joules_per_to=compute_watts * seconds_per_to
        )
        for (family, dtype), seconds_per_to in _datasheet_rates(sheet).items()
    )
    return HardwareProfile(
        schema="onnx_aiwq.profile/1",
        id=slug(sheet.name),
        name=sheet.name,
        kind=sheet.kind,
        source="datasheet",
        threads=sheet.cores,
        coefficients=coefficients,
        seconds_per_byte=seconds_per_byte,
        joules_per_bit=memory_watts * seconds_per_byte / BITS_PER_BYTE,
        static_watts=static_watts,
        interval=DATASHEET_INTERVAL,
        comp_res=sheet.comp_res,
        embodied=sheet.embodied,
        provenance={"derivation": _DERIVATION},
        sources=sheet.sources,
    )


_DERIVATION = (
    f"datasheet: {SUSTAINED_COMPUTE_SHARE:.3g} of the peak rate and {SUSTAINED_BANDWIDTH_SHARE:.3g} of the peak "
    f"bandwidth sustained; {STATIC_SHARE_OF_TDP:.3g} of the TDP static; memory draws "
    f"{MEMORY_SHARE_OF_DYNAMIC_POWER:.3g} of the rest; no overhead per node or run"
)


def _datasheet_rates(sheet: Datasheet) -> dict[tuple[str, str], float]:
    """Seconds per transistor operation by (family, data type); see `derive_from_datasheet`, step 1."""

    def seconds_per_to(tera_per_s: float, transistors: int) -> float:
        return 1 / (tera_per_s * 1e12 / 2 * SUSTAINED_COMPUTE_SHARE * transistors)

    float32 = seconds_per_to(sheet.fp32_tflops, transistors_per_mac(DType.FLOAT))
    rates = {(ANY, ANY): float32, (ANY, DType.FLOAT.label): float32}
    for dtype in (DType.FLOAT16, DType.BFLOAT16):
        transistors = transistors_per_mac(dtype)
        rates[ANY, dtype.label] = seconds_per_to(sheet.fp32_tflops, transistors)
        if sheet.fp16_tensor_tflops is not None:
            tensor = seconds_per_to(sheet.fp16_tensor_tflops, transistors)
            rates |= {(family, dtype.label): tensor for family in DENSE_FAMILIES}
    quantised = transistors_per_mac(DType.INT8, DType.INT32)
    for dtype in (DType.INT8, DType.UINT8):
        rates[ANY, dtype.label] = seconds_per_to(sheet.fp32_tflops, quantised)
    if sheet.int8_tops is not None:
        # The accumulation runs inside the same instruction: with both types at one rate per TO, a MAC takes 1 / rate.
        for dtype in (DType.INT8, DType.UINT8, DType.INT32):
            tensor = seconds_per_to(sheet.int8_tops, quantised)
            rates |= {(family, dtype.label): tensor for family in DENSE_FAMILIES}
    return rates


_EVIDENCE = (
    "checked against 184 published measurements, on published MACs, parameters and activations, without a run: 161 of "
    "CNNs in float32, batch 4 to 32 (arXiv 2509.22092: whole PC at the wall, Core i9-13900K and GeForce RTX 4090, "
    "n=100; STREP, ECML PKDD 2022: Xeon W-2155 package and Quadro RTX 5000 board + CPU package, n=61) and 23 of "
    "language models and FLUX.1-dev in bfloat16 (ML.ENERGY v3: H100 board). Measured / predicted {quantity}: median "
    "{median}, 5th to 95th percentile {spread}, all {extremes}; {inside} lie inside. The worst is MobileNetV3Small: "
    "overheads are not modelled, so tiny networks and batch 1 can exceed it. {bias}"
)

DATASHEET_INTERVAL = Interval(
    level=0.90,
    seconds=Factors(
        low_factor=0.2,
        high_factor=10.0,
        basis=_EVIDENCE.format(
            quantity="time",
            median="1.05 (CNNs 1.18, H100 0.83)",
            spread="0.27 to 4.70",
            extremes="0.16 to 16.2",
            inside="97 %",
            bias="The sustained shares were chosen in view of the CNN rows.",
        ),
    ),
    joules=Factors(
        low_factor=0.25,
        high_factor=10.0,
        basis=_EVIDENCE.format(
            quantity="energy",
            median="1.60 (wall 1.83, CPU package or GPU board + CPU package 1.81, H100 board 1.45)",
            spread="0.67 to 5.29",
            extremes="0.23 to 15.0",
            inside="97 %",
            bias="The datasheet covers the processor alone; the wall adds the other parts and the power supply.",
        ),
    ),
)
"""The interval of every datasheet profile, wider than the central nine tenths of its evidence, and that evidence."""


def _table(name: str) -> list[dict[str, str]]:
    text = (resources.files("onnx_aiwq") / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _number(row: Mapping[str, str], column: str) -> float | None:
    text = row.get(column) or ""
    return float(text) if text.strip() else None


@functools.cache
def _hardware_rows() -> dict[str, dict[str, str]]:
    """``hardware.csv`` by name, its blanks filled from ``hardware_additions.csv``; nothing is overwritten."""
    rows = {row["name"]: row for row in _table("hardware.csv")}
    for extra in _table("hardware_additions.csv"):
        row = rows[extra["name"]]
        for column, value in extra.items():
            if not row.get(column):
                row[column] = value
    return rows


_NEEDED = ("tdp_w", "fp32_tflops", "mem_bw_gb_s")


def missing_figures(wanted: str) -> str:
    for name, row in _hardware_rows().items():
        if wanted in (name.casefold(), slug(name)):
            return ", ".join(column for column in _NEEDED if _number(row, column) is None)
    return ""


def peak_figures(name: str) -> tuple[str, float, float] | None:
    """Full name, peak float32 FLOP/s and TDP in watts of a processor of the hardware list; None where one is absent."""
    wanted = name.strip().casefold()
    for known, row in _hardware_rows().items():
        tdp_w, fp32_tflops = _number(row, "tdp_w"), _number(row, "fp32_tflops")
        if wanted in (known.casefold(), slug(known)) and tdp_w is not None and fp32_tflops is not None:
            return known, fp32_tflops * 1e12, tdp_w
    return None


def processor_names() -> list[str]:
    """Full names of the processors of the hardware list."""
    return list(_hardware_rows())


@functools.cache
def datasheet_profiles() -> dict[str, HardwareProfile]:
    """Derived profiles by full name, for the processors with a TDP, a float32 rate and a bandwidth."""
    return {
        name: derive_from_datasheet(sheet)
        for name, row in _hardware_rows().items()
        if (sheet := _datasheet(row)) is not None
    }


def _datasheet(row: Mapping[str, str]) -> Datasheet | None:
    tdp_w, fp32_tflops, bandwidth_gb_s = (_number(row, column) for column in _NEEDED)
    if tdp_w is None or fp32_tflops is None or bandwidth_gb_s is None:
        return None
    cores, embodied_kg = _number(row, "cores"), _number(row, "embodied_kgco2e")
    embodied_source = f"{row['embodied_source']}; {EMBODIED_LIFETIME_SOURCE}"
    return Datasheet(
        name=row["name"],
        kind=cast(Kind, row["kind"]),
        tdp_w=tdp_w,
        fp32_tflops=fp32_tflops,
        bandwidth_gb_s=bandwidth_gb_s,
        fp16_tensor_tflops=_number(row, "fp16_tensor_tflops"),
        int8_tops=_number(row, "int8_tops"),
        cores=None if cores is None else int(cores),
        comp_res=CompResFigures(cpu_gips=_cpu_gips(row), ram_gt_per_s=_number(row, "ram_gt_per_s")),
        embodied=None if embodied_kg is None else Embodied(kgco2e=embodied_kg, source=embodied_source),
        sources=tuple(
            row[column]
            for column in ("source", "note", "tdp_source", "fp32_source", "mem_source", "instructions_source")
            if row.get(column)
        ),
    )


def _cpu_gips(row: Mapping[str, str]) -> float | None:
    """1e9 instructions per second at the base clock: cores x GHz x instructions per clock; None without all three."""
    cores, base_ghz, per_clock = (_number(row, name) for name in ("cores", "base_ghz", "instructions_per_clock"))
    if cores is None or base_ghz is None or per_clock is None:
        return None
    return cores * base_ghz * per_clock
