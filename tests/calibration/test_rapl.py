"""RAPL against recorded powercap trees: which counters are added, wraps, gaps, permissions, counters that lie."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_aiwq.calibration.meters.protocol import MeterUnavailableError
from onnx_aiwq.calibration.meters.rapl import RaplMeter, Zone, _Counter, find_zones, select_zones
from onnx_aiwq.errors import MeterError
from recorded_machines import (
    AMD_SERVER,
    CASCADE_LAKE_AP,
    LAPTOP,
    RANGE_UJ,
    SERVER,
    THREADRIPPER_1950X,
    Counters,
    machine,
    powercap,
)


def meter_of(folder: Path, zones: dict[str, str], **tree: object) -> tuple[RaplMeter, Counters]:
    counters = Counters(zones)
    root = powercap(folder, zones, **tree)  # type: ignore[arg-type]
    return RaplMeter(root, read=counters.read, clock=counters.clock, system=machine(folder)), counters


def test_package_and_dram_are_added_and_nothing_else(tmp_path: Path) -> None:
    meter, counters = meter_of(tmp_path, LAPTOP)
    counters.uj = {zone: 1000 * index for index, zone in enumerate(LAPTOP)}
    meter.start()
    flow = {"intel-rapl:0": 30, "intel-rapl:0:0": 18, "intel-rapl:0:1": 5, "intel-rapl:0:2": 4, "intel-rapl:1": 60}
    counters.flow(2, {**flow, "intel-rapl-mmio:0": 30, "intel-rapl-mmio:0:0": 4})
    reading = meter.stop()
    assert reading.joules == pytest.approx(34)  # 30 of the package + 4 of its DRAM
    assert reading.by_domain == {"package-0": 30.0, "dram of package-0": 4.0}
    assert reading.seconds == pytest.approx(2)
    assert reading.watts == pytest.approx(17)
    assert (reading.label, reading.scope, reading.notes) == ("measured", "CPU package + DRAM", ())
    assert meter.notes == ()
    # Both ends are known to the counter's millisecond: 1 ms of 2 s.
    assert (reading.joules_low, reading.joules_high) == (pytest.approx(34 * 0.9995), pytest.approx(34 * 1.0005))


@pytest.mark.parametrize("nested", [False, True])
def test_zones_are_found_once_however_they_are_listed(tmp_path: Path, nested: bool) -> None:
    root = powercap(tmp_path, SERVER, nested=nested)
    assert [(zone.id, zone.name) for zone in find_zones(root)] == list(SERVER.items())


def test_a_zone_that_is_listed_flat_and_nested_is_one(tmp_path: Path) -> None:
    root = powercap(tmp_path, SERVER, nested=True)
    for child in list(root.glob("intel-rapl/intel-rapl:*")):
        (root / child.name).symlink_to(child)  # as /sys/class does
    assert [zone.id for zone in find_zones(root)] == list(SERVER)
    chosen, _ = select_zones(find_zones(root))
    assert sorted(chosen) == ["dram of package-0", "dram of package-1", "package-0", "package-1"]


@pytest.mark.parametrize(
    ("zones", "amd", "scope", "domains", "said"),
    [
        (AMD_SERVER, True, "CPU package", ["package-0"], "no DRAM counter"),
        (THREADRIPPER_1950X, True, "CPU package", ["package-0-die-0"], "intel-rapl:1 (package-0-die-1) repeats"),
        (CASCADE_LAKE_AP, False, "CPU package", ["package-0-die-0", "package-0-die-1"], "no DRAM counter"),
        ({"intel-rapl:0": "package-0", "intel-rapl:1": "package-0"}, False, "CPU package", ["package-0"], "repeats"),
        ({"intel-rapl:0": "psys"}, False, "platform (psys)", ["psys"], "whole platform"),
        ({"intel-rapl-mmio:0": "package-0"}, False, "CPU package", ["package-0"], "MMIO"),
    ],
)
def test_what_is_covered_on_other_machines(
    tmp_path: Path, zones: dict[str, str], amd: bool, scope: str, domains: list[str], said: str
) -> None:
    counters = Counters(zones)
    system = machine(tmp_path, vendor="AuthenticAMD" if amd else "GenuineIntel")
    meter = RaplMeter(powercap(tmp_path, zones), read=counters.read, clock=counters.clock, system=system)
    meter.start()
    counters.flow(2, dict.fromkeys(zones, 10.0))
    reading = meter.stop()
    assert (meter.scope, list(reading.by_domain)) == (scope, domains)
    assert reading.joules == pytest.approx(10 * len(domains))
    assert any(said in note for note in meter.notes)


def test_top_level_dram_is_added(tmp_path: Path) -> None:
    zones = {"intel-rapl:0": "package-0", "intel-rapl:1": "dram"}
    chosen, notes = select_zones(find_zones(powercap(tmp_path, zones)))
    assert [zone.id for zone in chosen.values()] == ["intel-rapl:0", "intel-rapl:1"]
    assert notes == ()


# --- counters ----------------------------------------------------------------------------------------------------


def test_a_counter_that_wraps_is_followed(tmp_path: Path) -> None:
    meter, counters = meter_of(tmp_path, {"intel-rapl:0": "package-0"})
    counters.uj["intel-rapl:0"] = RANGE_UJ - 50_000_000  # 50 J below its end
    meter.start()
    counters.flow(1, {"intel-rapl:0": 200})
    assert counters.uj["intel-rapl:0"] == 150_000_000
    assert meter.stop().joules == pytest.approx(200)


def test_a_counter_that_wraps_again_and_again_is_followed(tmp_path: Path) -> None:
    meter, counters = meter_of(tmp_path, {"intel-rapl:0": "package-0"}, range_uj=65_532_610_987)  # an AMD range
    meter.start()
    for _ in range(100):  # 10 s at 400 W: 400 kJ are six ranges
        counters.flow(10, {"intel-rapl:0": 4000}, range_uj=65_532_610_987)
        meter.poll()
    reading = meter.stop()
    assert reading.joules == pytest.approx(400_000)
    assert reading.seconds == pytest.approx(1000)


@given(st.lists(st.integers(0, 1_900_000_000), min_size=1, max_size=30), st.integers(0, 3_999_999_999))
def test_any_sequence_of_steps_adds_up(steps_uj: list[int], start_uj: int) -> None:
    """One reading per second, at any power below the limit: the total is the sum, however often it wraps."""
    range_uj = 4_000_000_000
    now = [start_uj]
    zone = Zone(Path("x"), "intel-rapl:0", "package-0")
    counter = _Counter("package-0", zone, lambda _: now[0], range_uj)
    counter.begin(0.0)
    for second, step_uj in enumerate(steps_uj, start=1):
        now[0] = (now[0] + step_uj) % range_uj
        counter.advance(float(second))
    assert counter.joules == pytest.approx(sum(steps_uj) / 1e6)


def test_the_thread_reads_before_a_counter_wraps_twice(tmp_path: Path) -> None:
    """1900 W on a range of 2000 J, in real time: 4 kJ in 2.2 s, which two readings alone would take for little."""
    zones = {"intel-rapl:0": "package-0"}
    root = powercap(tmp_path, zones, range_uj=2_000_000_000)
    began_s = time.monotonic()

    def read(path: Path) -> str:
        if path.name == "energy_uj":
            return str(int((time.monotonic() - began_s) * 1_900_000_000) % 2_000_000_000)
        return path.read_text(encoding="ascii")

    meter = RaplMeter(root, read=read, system=machine(tmp_path))
    meter.start()
    time.sleep(2.2)
    reading = meter.stop()
    meter.close()
    assert reading.joules > 2 * 2000
    assert reading.joules == pytest.approx(1900 * reading.seconds, rel=0.02)


def test_a_counter_that_goes_backwards_is_refused(tmp_path: Path) -> None:
    meter, counters = meter_of(tmp_path, {"intel-rapl:0": "package-0"})
    counters.uj["intel-rapl:0"] = 90_000_000_000
    meter.start()
    counters.now_s += 10
    counters.uj["intel-rapl:0"] = 80_000_000_000  # as a wrap this would be 252 kJ in 10 s
    with pytest.raises(MeterError, match=r"intel-rapl:0 \(package-0\) went backwards from 90000000000 to 80000000000"):
        meter.stop()
    meter.start()  # the meter can be used again
    counters.flow(2, {"intel-rapl:0": 10})
    assert meter.stop().joules == pytest.approx(10)


def test_a_value_beyond_the_range_is_no_wrap(tmp_path: Path) -> None:
    meter, counters = meter_of(tmp_path, {"intel-rapl:0": "package-0"}, range_uj=1_000_000_000)
    counters.uj["intel-rapl:0"] = 9_000_000_000
    meter.start()
    counters.now_s += 0.1
    counters.uj["intel-rapl:0"] = 100
    with pytest.raises(MeterError, match="went backwards"):
        meter.stop()


def test_a_gap_in_which_wraps_cannot_be_counted_is_refused(tmp_path: Path) -> None:
    meter, counters = meter_of(tmp_path, {"intel-rapl:0": "package-0"})
    meter.start()
    counters.flow(132, {"intel-rapl:0": 5000})  # the range of 262 kJ is 131 s at 2 kW
    with pytest.raises(MeterError, match="was not read for 132 s"):
        meter.stop()


def test_what_the_thread_meets_is_told_at_the_end(tmp_path: Path) -> None:
    zones = {"intel-rapl:0": "package-0"}
    counters = Counters(zones)
    root = powercap(tmp_path, zones, range_uj=40_000_000)  # 20 ms at 2 kW, so the thread reads every 5 ms
    meter = RaplMeter(root, read=counters.read, clock=counters.clock, system=machine(tmp_path))
    meter.start()
    del counters.uj["intel-rapl:0"]  # any reading from now on fails
    counters.read = lambda path: (_ for _ in ()).throw(OSError(5, "Input/output error"))  # type: ignore[method-assign]
    meter._read = counters.read
    deadline_s = time.monotonic() + 10
    while meter._poller._failure is None and time.monotonic() < deadline_s:
        time.sleep(0.005)
    with pytest.raises(MeterError, match="energy_uj cannot be read: Input/output error"):
        meter.stop()


@pytest.mark.parametrize("dead", ["intel-rapl:0", "intel-rapl:0:2"])
def test_a_counter_that_stands_still_is_no_zero(tmp_path: Path, dead: str) -> None:
    meter, counters = meter_of(tmp_path, LAPTOP)
    meter.start()
    counters.flow(5, {zone: 50.0 for zone in LAPTOP if zone != dead})
    if dead == "intel-rapl:0":
        with pytest.raises(MeterError, match=r"package-0 did not move in 5 s.*--watts"):
            meter.stop()
    else:
        reading = meter.stop()
        assert reading.joules == pytest.approx(50)
        assert any("DRAM is not covered" in note for note in reading.notes)


def test_a_short_window_says_so(tmp_path: Path) -> None:
    meter, counters = meter_of(tmp_path, {"intel-rapl:0": "package-0"})
    meter.start()
    counters.flow(0.1, {"intel-rapl:0": 2})
    reading = meter.stop()
    assert any("shorter than the 1 s" in note for note in reading.notes)
    assert reading.joules_low == pytest.approx(2 * 0.99)  # 1 ms of 100 ms


def test_windows_are_opened_and_closed_in_turn(tmp_path: Path) -> None:
    meter, counters = meter_of(tmp_path, {"intel-rapl:0": "package-0"})
    with pytest.raises(MeterError, match="stop without a window"):
        meter.stop()
    meter.start()
    with pytest.raises(MeterError, match="a window is open"):
        meter.start()
    counters.flow(2, {"intel-rapl:0": 1})
    meter.stop()
    meter.close()
    meter.close()


# --- what cannot be read -----------------------------------------------------------------------------------------


def test_permission_denied_says_what_to_do(tmp_path: Path) -> None:
    """A mode of 0400 does not stop root, so the refusal comes from the reader."""

    def read(path: Path) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return path.read_text(encoding="ascii")

    with pytest.raises(MeterUnavailableError) as caught:
        RaplMeter(powercap(tmp_path, SERVER), read=read, system=machine(tmp_path))
    assert "intel-rapl:0/energy_uj may not be read by this user" in caught.value.reason
    assert "chmod a+r /sys/class/powercap/intel-rapl*/energy_uj" in caught.value.next_step
    assert 'SUBSYSTEM=="powercap"' in caught.value.next_step


@pytest.mark.parametrize(("virtual", "why"), [(True, "virtual machine"), (False, "no powercap driver is loaded")])
def test_no_powercap_folder(tmp_path: Path, virtual: bool, why: str) -> None:
    with pytest.raises(MeterUnavailableError) as caught:
        RaplMeter(tmp_path / "absent", system=machine(tmp_path, virtual=virtual))
    assert why in caught.value.reason
    assert "modprobe intel_rapl" in caught.value.next_step


@pytest.mark.parametrize(
    ("zones", "said"),
    [
        ({}, "holds no intel-rapl zone"),
        ({"intel-rapl:0": "core", "intel-rapl:1": "dram"}, r"no package counter among intel-rapl:0 \(core\)"),
    ],
)
def test_trees_without_a_package(tmp_path: Path, zones: dict[str, str], said: str) -> None:
    with pytest.raises(MeterUnavailableError, match=said):
        RaplMeter(powercap(tmp_path, zones), system=machine(tmp_path))


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("energy_uj", "12.5\n", "expected microjoules"),
        ("energy_uj", "", "expected microjoules"),
        ("max_energy_range_uj", "0\n", "expected a positive range"),
        ("max_energy_range_uj", None, "cannot be read: No such file"),
    ],
)
def test_files_that_make_no_sense(tmp_path: Path, file: str, text: str | None, said: str) -> None:
    root = powercap(tmp_path, {"intel-rapl:0": "package-0"})
    path = root / "intel-rapl:0" / file
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(MeterUnavailableError, match=said):
        RaplMeter(root, system=machine(tmp_path))
