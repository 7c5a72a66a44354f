"""The power model: watts worked by hand from the published figures, the interval, recognition, refusals."""

from __future__ import annotations

import csv
import math
import statistics
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_aiwq.calibration.machine import ProcessorIdentity
from onnx_aiwq.calibration.meters.power_model import PowerModelMeter
from onnx_aiwq.calibration.meters.protocol import MeterUnavailableError
from onnx_aiwq.calibration.meters.watts import (
    Host,
    estimate_watts,
    given_watts,
    plain_name,
    spread_between_sources,
)
from onnx_aiwq.errors import MeterError

EPYC_7763 = ProcessorIdentity("AMD EPYC 7763 64-Core Processor", "AuthenticAMD", 25, 1, 1)
GENOA_HIDDEN = ProcessorIdentity("AMD EPYC", "AuthenticAMD", 25, 17, 1)


def table(name: str) -> list[dict[str, str]]:
    text = (resources.files("onnx_aiwq") / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def test_a_well_known_runner() -> None:
    """Four vCPUs of an EPYC 7763, all busy, by three kinds of figures; the point is the middle one."""
    power = estimate_watts(EPYC_7763, Host(vcpus=4, virtual=True), threads=4)
    tdp = 1.02 * 280 / (64 * 2) * 4  # 8.925 W
    specpower = 4 * (2.0193277994791666 + 1.8719357994791666) / 2  # Azure's and Google's: 7.78 W
    runner = 8.18
    assert power.watts == pytest.approx(statistics.median([tdp, specpower, runner]))
    assert power.watts == pytest.approx(8.18)
    # Idle: 12 % of the TDP 1.05 W, SPECpower 1.78 W, runner 1.76 W.
    assert power.static_watts == pytest.approx(1.76)
    assert power.low < 4 * 1.8719357994791666
    assert power.high > tdp


def test_half_of_the_runner() -> None:
    power = estimate_watts(EPYC_7763, Host(vcpus=4, virtual=True), threads=2)
    tdp = 0.75 * 280 / 128 * 4
    specpower = 4 * statistics.median(
        low + (high - low) / 2
        for low, high in [(0.44538981119791665, 2.0193277994791666), (0.44538981119791665, 1.8719357994791666)]
    )
    assert power.watts == pytest.approx(statistics.median([tdp, specpower, 5.16]))


def test_the_curve_of_a_range_is_scaled_to_the_tdp() -> None:
    """Xeon Platinum 8370C (270 W, 32 cores), 1 of 4 vCPUs busy; no SPECpower figure for Ice Lake."""
    power = estimate_watts(
        ProcessorIdentity("Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz"), Host(vcpus=4, virtual=True), threads=1
    )

    def boavizta(load: float) -> float:
        return 171.1813 * math.log(0.0354 * (load + 36.8953)) - 10.1336

    slice_w = 270 / 64 * 4
    curve = 1.02 * slice_w * boavizta(25) / boavizta(100)
    ratios = slice_w * (0.32 + (0.75 - 0.32) * 15 / 40)
    assert power.watts == pytest.approx((curve + ratios) / 2)


def test_a_physical_machine_is_charged_its_packages() -> None:
    """A desktop part has no SPECpower figure: TDP x 1.02 at full load, x 0.12 idle."""
    identity = ProcessorIdentity("AMD Ryzen 9 5950X 16-Core Processor", "AuthenticAMD", 25, 33, 0)
    power = estimate_watts(identity, Host(vcpus=32, virtual=False), threads=32)
    assert power.watts == pytest.approx(1.02 * 105)
    assert power.static_watts == pytest.approx(0.12 * 105)
    two = estimate_watts(identity, Host(vcpus=64, virtual=False, packages=2), threads=64)
    assert two.watts == pytest.approx(2 * power.watts)
    assert "2 package(s)" in two.scope


def test_measured_packages_lie_in_the_interval() -> None:
    """Mean package power of a Xeon W-2155 by RAPL under 22 CNNs (STREP, ECML PKDD 2022): 106 to 138 W."""
    measured = [111.7, 111.5, 111.7, 111.4, 110.2, 110.6, 112.5, 112.7, 127.8, 109.8, 106.1]
    measured += [116.6, 126.7, 114.8, 126.7, 122.9, 123.9, 119.8, 121.8, 119.4, 136.7, 137.6]
    identity = ProcessorIdentity("Intel(R) Xeon(R) W-2155 CPU @ 3.30GHz", "GenuineIntel", 6, 85, 4)
    power = estimate_watts(identity, Host(vcpus=20, virtual=False), threads=20)
    assert all(power.low <= watts <= power.high for watts in measured)
    assert power.watts == pytest.approx(statistics.median(measured), rel=0.1)


def test_the_spread_is_that_of_the_sources() -> None:
    """TDP and SPECpower per hardware thread, from the files themselves."""
    sheets = {row["name"]: row for row in table("hardware.csv")}
    cloud: dict[str, list[float]] = {}
    for row in table("cloud_cpu_watts.csv"):
        cloud.setdefault(row["architecture"], []).append(float(row["max_watts_per_vcpu"]))
    factors = []
    for row in table("processor_architectures.csv"):
        known = [watts for name in row["cloud_names"].split(";") for watts in cloud.get(name, [])]
        for part in filter(None, row["processors"].split(";")):
            sheet = sheets[part]
            if known and sheet["tdp_w"] and sheet["cores"]:
                tdp = 1.02 * float(sheet["tdp_w"]) / float(sheet["cores"]) / int(row["threads_per_core"])
                factors.append(math.exp(abs(math.log(tdp / statistics.median(known)))))
    factors.sort()
    position = 0.9 * (len(factors) - 1)
    below = int(position)
    expected = factors[below] + (position - below) * (factors[below + 1] - factors[below])
    spread, pairs = spread_between_sources()
    assert pairs == len(factors) >= 20
    assert spread == pytest.approx(expected)


def test_a_hidden_part_spans_its_architecture() -> None:
    """A hypervisor that says "AMD EPYC": the CPUID says fourth generation, of which 2.98 to 12.75 W per 2 vCPUs."""
    power = estimate_watts(GENOA_HIDDEN, Host(vcpus=2, virtual=True), threads=2)
    per_pair = [1.02 * tdp / cores for tdp, cores in [(280, 32), (290, 48), (360, 64), (360, 96), (280, 96), (200, 16)]]
    assert power.watts == pytest.approx(statistics.median(per_pair))
    assert power.low <= min(per_pair)
    assert power.high >= max(per_pair)
    assert "exact part is hidden" in power.basis


@pytest.mark.parametrize(
    ("identity", "known_as"),
    [
        (ProcessorIdentity("Intel(R) Xeon(R) CPU @ 2.20GHz", "GenuineIntel", 6, 79, 0), "Broadwell"),
        (ProcessorIdentity("Intel(R) Xeon(R) CPU @ 2.00GHz", "GenuineIntel", 6, 85, 3), "Skylake"),
        (ProcessorIdentity("Intel(R) Xeon(R) CPU @ 2.80GHz", "GenuineIntel", 6, 85, 7), "Cascade Lake"),
        (ProcessorIdentity("Intel(R) Xeon(R) Processor @ 2.90GHz", "GenuineIntel", 6, 106, 6), "Ice Lake"),
        (ProcessorIdentity("AMD EPYC 7B13", "AuthenticAMD", 25, 1, 1), "EPYC 3rd Gen"),
        (ProcessorIdentity("AMD EPYC 7R32", "AuthenticAMD", 23, 49, 0), "AMD EPYC 7R32:"),
        (ProcessorIdentity("Graviton2"), "Graviton2"),
        (ProcessorIdentity("Cascade Lake"), "Cascade Lake"),
    ],
)
def test_recognition(identity: ProcessorIdentity, known_as: str) -> None:
    assert estimate_watts(identity, Host(2, virtual=True), 1).basis.startswith(known_as)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz", "intel xeon e5-2686 v4"),
        ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", "intel xeon platinum 8259cl"),
        ("AMD EPYC 7763 64-Core Processor", "amd epyc 7763"),
        ("AMD Ryzen 7 5700U with Radeon Graphics", "amd ryzen 7 5700u"),
        ("12th Gen Intel(R) Core(TM) i7-12700K", "intel core i7-12700k"),
        ("Apple M1 Pro", "apple m1 pro"),
    ],
)
def test_plain_names(name: str, plain: str) -> None:
    assert plain_name(name) == plain
    assert plain in {plain_name(row["name"]) for row in table("hardware.csv")}


@pytest.mark.parametrize(
    ("identity", "virtual", "said"),
    [
        (ProcessorIdentity("Pentium Pro"), True, "no source knows the processor 'Pentium Pro'"),
        (ProcessorIdentity("AMD EPYC 7764 64-Core Processor"), True, "did you mean 'AMD EPYC 7763'"),
        (ProcessorIdentity("unknown"), False, "no source knows"),
        # A desktop part with the CPUID of a server (Skylake-X) does not get a server's watts.
        (ProcessorIdentity("Intel(R) Core(TM) i9-7900X CPU @ 3.30GHz", "GenuineIntel", 6, 85, 4), False, "no source"),
        (ProcessorIdentity("AMD EPYC 9965", "AuthenticAMD", 26, 17, 0), True, "no source knows"),
        (ProcessorIdentity("12th Gen Intel(R) Core(TM) i7-12700K"), True, "no source gives watts for a virtual"),
    ],
)
def test_unknown_processors_are_refused(identity: ProcessorIdentity, virtual: bool, said: str) -> None:
    with pytest.raises(MeterUnavailableError, match=said) as caught:
        estimate_watts(identity, Host(8, virtual=virtual), 4)
    assert "--watts" in caught.value.next_step


@pytest.mark.parametrize("threads", [0, -1, 5])
def test_threads_that_do_not_exist(threads: int) -> None:
    with pytest.raises(MeterUnavailableError, match=f"{threads} busy threads on 4"):
        estimate_watts(EPYC_7763, Host(4, virtual=True), threads)


@given(
    st.sampled_from([row["name"] for row in table("hardware.csv") if row["kind"] == "cpu" and row["tdp_w"]]),
    st.integers(1, 64),
    st.data(),
)
def test_any_processor(name: str, vcpus: int, data: st.DataObject) -> None:
    """Idle <= busy, an interval around the point, and more busy threads never draw less."""
    threads = data.draw(st.integers(1, vcpus))
    host = Host(vcpus, virtual=False)
    power = estimate_watts(ProcessorIdentity(name), host, threads)
    assert power.static_watts is not None
    assert 0 <= power.static_watts <= power.watts
    assert 0 < power.low < power.watts < power.high
    if threads < vcpus:
        assert estimate_watts(ProcessorIdentity(name), host, threads + 1).watts >= power.watts


def test_given_watts_have_an_interval() -> None:
    power = given_watts(50)
    assert (power.watts, power.static_watts) == (50, None)
    assert 0 < power.low < 50 < power.high
    assert "n=380" in power.basis


@pytest.mark.parametrize("watts", [0.0, -3.0, math.nan, math.inf])
def test_watts_that_are_none(watts: float) -> None:
    with pytest.raises(MeterUnavailableError, match="is no power"):
        given_watts(watts)


def test_the_meter_multiplies() -> None:
    now_s = [5.0]
    power = estimate_watts(EPYC_7763, Host(4, virtual=True), 4)
    meter = PowerModelMeter(power, clock=lambda: now_s[0])
    meter.start()
    now_s[0] += 10
    reading = meter.stop()
    assert reading.joules == pytest.approx(81.8)
    assert (reading.joules_low, reading.joules_high) == (pytest.approx(10 * power.low), pytest.approx(10 * power.high))
    assert reading.label == "modelled"
    assert reading.by_domain == {"static": pytest.approx(17.6), "dynamic": pytest.approx(64.2)}
    assert "not measured" in meter.notes[0]
    with pytest.raises(MeterError, match="stop without a window"):
        meter.stop()
    meter.start()
    with pytest.raises(MeterError, match="a window is open"):
        meter.start()


def test_the_tables_are_whole() -> None:
    """Every part of an architecture is in the hardware list, every cloud name has watts, every row a source."""
    parts = {row["name"] for row in table("hardware.csv")}
    cloud = {row["architecture"] for row in table("cloud_cpu_watts.csv")}
    for row in table("processor_architectures.csv"):
        assert set(filter(None, row["processors"].split(";"))) <= parts
        assert set(filter(None, row["cloud_names"].split(";"))) <= cloud
    for name in ("processor_architectures.csv", "cloud_cpu_watts.csv", "utilisation_curves.csv"):
        assert all(row["source"] for row in table(name))
