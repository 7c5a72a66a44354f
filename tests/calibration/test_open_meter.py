"""Opening a meter: the best that a machine offers for a provider, fallbacks that say so, options that do not belong."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnx_aiwq.calibration.meters import Surroundings, open_meter, survey
from onnx_aiwq.calibration.meters.protocol import MeterUnavailableError
from onnx_aiwq.errors import MeterError, PolicyError
from recorded_machines import SERVER, Board, machine, powercap

CUDA = "CUDAExecutionProvider"
NO_DRIVER = Board(driver=False)


def test_a_server_measures(tmp_path: Path) -> None:
    here = Surroundings(powercap(tmp_path, SERVER), machine(tmp_path), NO_DRIVER)
    meter = open_meter(surroundings=here)
    assert (meter.name, meter.label, meter.notes) == ("rapl", "measured", ())


def test_a_virtual_machine_falls_back_and_says_so(tmp_path: Path) -> None:
    here = Surroundings(tmp_path / "absent", machine(tmp_path, virtual=True), NO_DRIVER)
    meter = open_meter(threads=1, surroundings=here)
    assert (meter.name, meter.label) == ("power-model", "modelled")
    assert "virtual machine; joules are modelled. To measure: " in meter.notes[0]
    assert "not measured" in meter.notes[1]


def test_a_gpu_is_measured_by_its_board_even_where_the_package_is_readable(tmp_path: Path) -> None:
    here = Surroundings(powercap(tmp_path, SERVER), machine(tmp_path), Board())
    meter = open_meter(provider=CUDA, surroundings=here)
    assert (meter.name, meter.scope) == ("nvml", "GPU board (NVIDIA H100)")
    meter.close()


def test_a_cpu_run_never_takes_the_board(tmp_path: Path) -> None:
    here = Surroundings(tmp_path / "absent", machine(tmp_path, virtual=True), Board())
    assert open_meter(threads=1, surroundings=here).name == "power-model"


@pytest.mark.parametrize("provider", [CUDA, "DmlExecutionProvider"])
def test_a_gpu_without_a_meter_needs_watts(tmp_path: Path, provider: str) -> None:
    here = Surroundings(powercap(tmp_path, SERVER), machine(tmp_path), NO_DRIVER)
    with pytest.raises(MeterUnavailableError, match=f"not the work of {provider}.*--watts W"):
        open_meter(provider=provider, surroundings=here)
    meter = open_meter(provider=provider, watts=300, surroundings=here)
    assert (meter.name, meter.label) == ("power-model", "modelled")


def test_no_meter_at_all_gives_every_reason(tmp_path: Path) -> None:
    here = Surroundings(tmp_path / "absent", machine(tmp_path, "Pentium Pro", cpuid=(6, 1, 0)), NO_DRIVER)
    with pytest.raises(MeterUnavailableError) as caught:
        open_meter(surroundings=here)
    assert "no powercap driver" in str(caught.value)
    assert "no source knows the processor 'Pentium Pro'" in str(caught.value)
    assert "--watts" in str(caught.value)


def test_the_processor_can_be_named(tmp_path: Path) -> None:
    here = Surroundings(tmp_path / "absent", machine(tmp_path, "Pentium Pro", cpuid=(6, 1, 0)), NO_DRIVER)
    meter = open_meter("power-model", processor="Xeon Gold 6148 of Intel", watts=20, surroundings=here)
    assert "20 W" in meter.notes[0]  # given watts need no processor
    named = open_meter("power-model", processor="Intel Xeon Gold 6148", threads=1, surroundings=here)
    assert "Intel Xeon Gold 6148: 1 of" in named.notes[0]


def test_a_meter_that_is_asked_for_is_that_or_nothing(tmp_path: Path) -> None:
    here = Surroundings(tmp_path / "absent", machine(tmp_path, virtual=True), NO_DRIVER)
    for kind in ("rapl", "nvml"):
        with pytest.raises(MeterUnavailableError):
            open_meter(kind, surroundings=here)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "rappl"}, "no meter 'rappl'; did you mean 'rapl'"),
        ({"kind": "replay"}, "needs the recorded trace: --trace FILE"),
        ({"kind": "auto", "trace": Path("t.csv")}, "--trace belongs to --meter replay, not to auto"),
        ({"kind": "rapl", "watts": 3.0}, "--watts belongs to --meter power-model, not to rapl"),
    ],
)
def test_options_that_do_not_belong(options: dict[str, object], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        open_meter(**options)  # type: ignore[arg-type]


def test_a_trace_is_replayed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("seconds,joules\n0,0\n2,9\n")
    meter = open_meter("replay", trace=tmp_path / "t.csv")
    meter.start()
    assert (meter.stop().joules, meter.label) == (9, "replayed")
    with pytest.raises(MeterError, match="cannot read the meter trace"):
        open_meter("replay", trace=tmp_path / "absent.csv")


def test_the_survey_of_a_server_and_of_a_virtual_machine(tmp_path: Path) -> None:
    server = survey(surroundings=Surroundings(powercap(tmp_path, SERVER), machine(tmp_path), Board()))
    assert [(each.name, each.usable, each.label) for each in server] == [
        ("rapl", True, "measured"),
        ("nvml", True, "measured"),
        ("power-model", True, "modelled"),
        ("replay", True, "replayed"),
    ]
    (tmp_path / "vm").mkdir()
    virtual = machine(tmp_path / "vm", "Pentium Pro", cpuid=(6, 1, 0), virtual=True)
    found = survey(surroundings=Surroundings(tmp_path / "absent", virtual, NO_DRIVER))
    assert [each.usable for each in found] == [False, False, False, True]
    assert all(each.reason and (each.usable or each.next_step) for each in found)
