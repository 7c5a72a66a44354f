"""Hardware profiles: the file format, the lookup, and the derivation from datasheets."""

from __future__ import annotations

import csv
import json
import math
from importlib import resources
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from onnx_aiwq import profiles
from onnx_aiwq.datasheets import Datasheet, derive_from_datasheet
from onnx_aiwq.errors import ProfileError
from onnx_aiwq.hardware_profile import HardwareProfile, slug
from onnx_aiwq.profiles import (
    REFERENCE_ID,
    calibrated_profile_of_this_machine,
    list_profiles,
    load_profile,
    this_machine,
)
from onnx_aiwq.vocabulary import DType


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user folder of its own for each test: what is calibrated on the machine that runs them must not matter."""
    folder = tmp_path / "user" / "profiles"
    folder.mkdir(parents=True)
    monkeypatch.setattr(profiles, "user_profile_folder", lambda: folder)
    return folder


def document(**changes: object) -> dict[str, object]:
    factors = {"low_factor": 0.9, "high_factor": 1.1, "basis": "40 held-out networks"}
    fields: dict[str, object] = {
        "schema": "onnx_aiwq.profile/1",
        "id": "my-laptop",
        "name": "My Laptop",
        "kind": "cpu",
        "provider": "CPUExecutionProvider",
        "source": "measured",
        "threads": 1,
        "coefficients": [{"family": "*", "dtype": "*", "seconds_per_to": 1e-15, "joules_per_to": 1e-14}],
        "seconds_per_byte": 1e-10,
        "joules_per_bit": 1e-11,
        "static_watts": 5,
        "interval": {"level": 0.9, "seconds": factors, "joules": factors},
        "covariance": {"names": ["a", "b"], "matrix": [[1.0, 0.1], [0.1, 2.0]]},
        "provenance": {"machine": this_machine(), "date": "2026-01-02"},
        "validation": {"median_ape": 0.04, "networks": 40},
    }
    return fields | changes


def write(folder: Path, file: str = "mine.json", **changes: object) -> Path:
    path = folder / file
    path.write_text(json.dumps(document(**changes)), encoding="utf-8")
    return path


# --- lookup


def test_default_is_the_shipped_calibration_and_says_what_it_is() -> None:
    assert calibrated_profile_of_this_machine() is None
    profile = load_profile()
    assert profile.id == "amd-epyc-zen-4-vcpu-1-thread"
    assert profile.kernels is not None and profile.source == "modelled" and profile.threads == 1
    assert "not this machine" in profile.name


def test_default_without_shipped_calibrations_is_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "_shipped_folders", list)
    profile = load_profile()
    assert profile.id == "reference-cpu"
    assert profile.source == "datasheet"
    assert "not this machine" in profile.name
    assert "Xeon Gold 6148" in profile.name


def test_default_is_the_newest_profile_of_this_machine(user_folder: Path) -> None:
    write(user_folder, "a.json", id="old", provenance={"machine": this_machine(), "date": "2025-01-01"})
    write(user_folder, "b.json", id="new", provenance={"machine": this_machine(), "date": "2026-01-01"})
    write(user_folder, "c.json", id="other", provenance={"machine": "another one", "date": "2027-01-01"})
    assert load_profile().id == "new"
    assert {"old", "new", "other"} <= {summary.id for summary in list_profiles() if summary.origin == "user"}


def test_the_processor_comes_before_a_device_and_one_thread_before_several(user_folder: Path) -> None:
    here = {"machine": this_machine(), "date": "2026-01-01"}
    write(user_folder, "c.json", id="board", kind="gpu", provenance={**here, "date": "2026-03-01"})
    assert load_profile().id == "board"
    write(user_folder, "b.json", id="two", threads=2, provenance={**here, "date": "2026-02-01"})
    assert load_profile().id == "two"
    write(user_folder, "a.json", id="one", provenance=here)
    assert load_profile().id == "one"


def test_broken_profile_of_the_user_is_not_passed_over(user_folder: Path) -> None:
    (user_folder / "broken.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ProfileError, match=r"broken\.json"):
        load_profile()


@pytest.mark.parametrize("name", ["nvidia-h100-sxm5-80gb", "NVIDIA-H100-SXM5-80GB", "nvidia h100 sxm5 80gb"])
def test_id_and_name_are_found_without_case(name: str) -> None:
    assert load_profile(name).name == "NVIDIA H100 SXM5 80GB"


def test_unknown_name_gives_the_nearest_and_the_next_step() -> None:
    with pytest.raises(ProfileError, match=r"nvidia-geforce-rtx-4090.*aiwq hardware"):
        load_profile("nvidia-geforce-rtx-4091")


def test_known_processor_with_gaps_names_the_gaps() -> None:
    with pytest.raises(ProfileError, match="fp32_tflops, mem_bw_gb_s"):
        load_profile("Intel Xeon Silver 4314")


def test_ids_are_unique_slugs_and_every_listed_profile_loads() -> None:
    summaries = list_profiles()
    ids = [summary.id for summary in summaries]
    assert ids[:2] == ["amd-epyc-zen-4-vcpu-1-thread", "reference-cpu"]
    assert len(set(ids)) == len(ids) > 50
    for summary in summaries:
        assert load_profile(summary.id).id == summary.id == slug(summary.id)
        assert load_profile(summary.name).name == summary.name


def test_shipped_profiles_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cal" / "board-x").mkdir(parents=True)
    write(tmp_path / "cal" / "board-x", "profile.json", id="board-x", name="Board X")
    monkeypatch.setattr(profiles, "_shipped_folders", lambda: [tmp_path / "absent", tmp_path / "cal"])
    assert load_profile("Board X").id == "board-x"
    assert [summary.origin for summary in list_profiles() if summary.id == "board-x"] == ["shipped"]


# --- file format


def test_file_round_trip(tmp_path: Path) -> None:
    profile = load_profile(str(write(tmp_path)))
    assert profile.threads == 1
    assert profile.covariance is not None
    assert profile.covariance.matrix[1][1] == 2.0
    again = tmp_path / "again.json"
    again.write_text(profile.to_json(), encoding="utf-8")
    assert load_profile(str(again)) == profile
    assert json.loads(profile.to_json())["schema"] == "onnx_aiwq.profile/1"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"schema": "onnx_aiwq.profile/2"}, "schema"),
        ({"seconds_per_byte": -1.0}, "seconds_per_byte"),
        ({"seconds_per_byte": "fast"}, "seconds_per_byte"),
        ({"static_watts": float("nan")}, "malformed: invalid character .byte"),
        ({"source": "guessed"}, "source"),
        ({"id": "Not A Slug"}, "id"),
        ({"watts": 5}, "watts"),
        ({"coefficients": []}, "coefficients"),
        ({"coefficients": [{"family": "*", "dtype": "flaot32", "seconds_per_to": 1, "joules_per_to": 1}]}, "dtype"),
        (
            {"coefficients": [{"family": "*", "dtype": "*", "seconds_per_to": 1, "joules_per_to": 1}] * 2},
            "coefficients",
        ),
        ({"covariance": {"names": ["a"], "matrix": [[1.0, 2.0]]}}, "covariance"),
        ({"embodied": {"kgco2e": 1.0, "lifetime_years": 0, "source": "x"}}, "embodied.lifetime_years"),
        (
            {
                "interval": {
                    "level": 0.9,
                    "seconds": {"low_factor": 1.2, "high_factor": 2, "basis": ""},
                    "joules": {"low_factor": 1, "high_factor": 0.5, "basis": ""},
                }
            },
            "interval.seconds.low_factor",
        ),
    ],
)
def test_invalid_file_names_file_and_field_in_one_line(tmp_path: Path, changes: dict[str, object], field: str) -> None:
    path = write(tmp_path, "mine.json", **changes)
    with pytest.raises(ProfileError, match=field) as caught:
        load_profile(str(path))
    assert "mine.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_hostile_file_is_a_profile_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match=r"x\.json"):
        load_profile(str(path))


def test_absent_huge_and_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProfileError, match="No such file"):
        load_profile(str(tmp_path / "absent.json"))
    with pytest.raises(ProfileError, match="cannot read"):
        load_profile(str(tmp_path) + "/")
    monkeypatch.setattr(profiles, "MAX_PROFILE_BYTES", 10)
    with pytest.raises(ProfileError, match="limit 10"):
        load_profile(str(write(tmp_path)))


def test_most_specific_coefficient_wins() -> None:
    def entry(family: str, dtype: str, joules: float) -> dict[str, object]:
        return {"family": family, "dtype": dtype, "seconds_per_to": 0.0, "joules_per_to": joules}

    fields = document(
        coefficients=[
            entry("*", "*", 1.0),
            entry("*", "float16", 2.0),
            entry("dense", "*", 3.0),
            entry("dense", "float16", 4.0),
        ]
    )
    profile = HardwareProfile.from_dict(fields)
    assert profile.coefficient("softmax", DType.FLOAT).joules_per_to == 1.0
    assert profile.coefficient("softmax", DType.FLOAT16).joules_per_to == 2.0
    assert profile.coefficient("dense", DType.INT8).joules_per_to == 3.0
    assert profile.coefficient("dense", DType.FLOAT16).joules_per_to == 4.0


# --- derivation

SHEET = Datasheet(
    name="Test Chip",
    kind="gpu",
    tdp_w=220.0,
    fp32_tflops=8.0,
    bandwidth_gb_s=400.0,
    fp16_tensor_tflops=64.0,
    int8_tops=128.0,
)


def seconds_per_mac(family: str, product: DType, accumulator: DType, mul_to: int, add_to: int) -> float:
    profile = derive_from_datasheet(SHEET)
    return (
        mul_to * profile.coefficient(family, product).seconds_per_to
        + add_to * profile.coefficient(family, accumulator).seconds_per_to
    )


def test_dense_products_run_at_a_quarter_of_the_peak_of_their_type() -> None:
    # 8 TFLOP/s are 4e12 MAC/s at the peak, of which a quarter is sustained.
    assert seconds_per_mac("dense", DType.FLOAT, DType.FLOAT, 12_736, 236) == pytest.approx(1 / 1e12)
    assert seconds_per_mac("dense", DType.FLOAT16, DType.FLOAT16, 2_709, 106) == pytest.approx(1 / 8e12)
    assert seconds_per_mac("dense", DType.BFLOAT16, DType.BFLOAT16, 1_486, 76) == pytest.approx(1 / 8e12)
    assert seconds_per_mac("recurrent", DType.FLOAT16, DType.FLOAT16, 2_709, 106) == pytest.approx(1 / 8e12)
    assert seconds_per_mac("dense", DType.INT8, DType.INT32, 1_406, 316) == pytest.approx(1 / 16e12)


def test_matrix_units_serve_dense_products_only() -> None:
    assert seconds_per_mac("elementwise", DType.FLOAT16, DType.FLOAT16, 2_709, 106) == pytest.approx(1 / 1e12)


def test_arithmetic_and_memory_at_their_sustained_rates_draw_the_tdp() -> None:
    profile = derive_from_datasheet(SHEET)
    coefficient = profile.coefficient("dense", DType.FLOAT)
    compute_w = coefficient.joules_per_to / coefficient.seconds_per_to
    memory_w = 8 * profile.joules_per_bit / profile.seconds_per_byte
    assert compute_w + memory_w + profile.static_watts == pytest.approx(220.0)
    assert profile.static_watts == pytest.approx(220.0 * 3 / 22)  # 30 W; the median share is that of the M2
    assert memory_w == pytest.approx(0.25 * 190.0)
    assert profile.seconds_per_byte == pytest.approx(1 / 200e9)


def test_datasheet_profiles_state_their_interval_and_its_evidence() -> None:
    profile = load_profile("nvidia-h100-sxm5-80gb")
    assert profile.source == "datasheet"
    assert profile.seconds_per_node is None
    assert profile.interval.level == 0.9
    for factors in (profile.interval.joules, profile.interval.seconds):
        assert factors.low_factor <= 0.25
        assert factors.high_factor >= 10
        assert "184 published measurements" in factors.basis
        assert "median" in factors.basis
    assert profile.embodied is not None
    assert (profile.embodied.kgco2e, profile.embodied.lifetime_years) == (164, 4)
    assert "Cloud Carbon Footprint" in profile.embodied.source


def test_reference_has_the_figures_of_the_xeon_gold_6148() -> None:
    profile = load_profile("reference-cpu")
    assert profile.threads == 20
    # 20 cores x 2.4 GHz x 64 FLOP; a quarter sustained; two FLOP a MAC; 12,972 TO a MAC.
    macs_per_s = 20 * 2.4e9 * 64 / 2 / 4
    assert profile.coefficient("dense", DType.FLOAT).seconds_per_to == pytest.approx(1 / (macs_per_s * 12_972))
    assert profile.seconds_per_byte == pytest.approx(1 / (6 * 8 * 2.6667e9 / 2), rel=1e-4)
    assert profile.static_watts == pytest.approx(150 * 3 / 22)
    assert profile.comp_res.ram_gt_per_s == pytest.approx(6 * 2.6667, rel=1e-3)
    assert profile.comp_res.cpu_gips == pytest.approx(20 * 2.4 * 4)
    assert profile.embodied is not None
    assert profile.embodied.kgco2e == 18.7


def test_every_added_figure_names_its_source() -> None:
    path = resources.files("onnx_aiwq") / "data" / "hardware_additions.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert rows
    for row in rows:
        for value, source in (("fp32_tflops", "fp32_source"), ("mem_bw_gb_s", "mem_source")):
            assert bool(row[value]) == bool(row[source])
        assert bool(row["instructions_per_clock"]) == bool(row["instructions_source"])
        assert all(load_profile(row["name"]).sources)


def test_a_number_that_no_file_may_hold_is_not_written() -> None:
    broken = changed(load_profile(REFERENCE_ID), static_watts=math.nan)
    with pytest.raises(ProfileError, match="malformed"):
        broken.to_json()
    negative = changed(load_profile(REFERENCE_ID), static_watts=-1.0)
    with pytest.raises(ProfileError, match="static_watts"):
        negative.to_json()
