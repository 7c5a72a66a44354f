"""Carbon: regions, grams by hand, and options out of range."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from onnx_aiwq.errors import PolicyError
from onnx_aiwq.hardware_profile import Embodied
from onnx_aiwq.metrics import carbon
from onnx_aiwq.metrics import regions as region_tables
from onnx_aiwq.metrics.carbon import carbon_footprint, embodied_given, functional_unit, profile_scope
from onnx_aiwq.metrics.hourly import read_hourly
from onnx_aiwq.metrics.regions import Region, find_region, list_regions, world_average
from onnx_aiwq.profiles import load_profile

KWH_J = 3.6e6


# --- regions


@pytest.mark.parametrize("code", ["DEU", "deu", "Germany", " germany "])
def test_country_by_code_or_name(code: str) -> None:
    region = find_region(code)
    assert (region.code, region.intensity_g_per_kwh, region.year, region.vintage) == ("DEU", 331.6, 2025, "2026")
    assert region.pue is None
    assert "CC BY 4.0" in region.licence
    assert "Ember" in region.source


@pytest.mark.parametrize("code", ["aws:eu-north-1", "eu-north-1", "AWS:EU-NORTH-1"])
def test_cloud_region_with_and_without_provider(code: str) -> None:
    region = find_region(code)
    assert (region.code, region.iso3, region.intensity_g_per_kwh, region.pue) == ("aws:eu-north-1", "SWE", 35.33, 1.135)
    assert (region.year, region.vintage) == (2025, "2026")


def test_google_values_have_their_own_vintage() -> None:
    region = find_region("gcp:europe-west2")
    assert (region.intensity_g_per_kwh, region.year, region.vintage, region.pue) == (105.94, 2024, "2024", 1.1)


def test_world_average_is_of_the_newest_full_year() -> None:
    world = world_average()
    assert (world.code, world.year, world.intensity_g_per_kwh) == ("OWID_WRL", 2024, 471.84)
    assert find_region("world") == find_region("World") == find_region("OWID_WRL") == world
    assert find_region("EU").name == "European Union (27)"


@pytest.mark.parametrize(
    ("code", "near"), [("Germny", "Germany"), ("aws:eu-central-9", "aws:eu-central-1"), ("eu-nrth-1", "eu-north-1")]
)
def test_unknown_region_gives_the_nearest_and_the_next_step(code: str, near: str) -> None:
    with pytest.raises(PolicyError, match=f"{near}.*aiwq regions"):
        find_region(code)


@pytest.mark.parametrize("code", ["", "   ", ":", "aws:", "XYZ"])
def test_nonsense_is_an_error(code: str) -> None:
    with pytest.raises(PolicyError, match="--region"):
        find_region(code)


def test_name_of_two_providers_is_ambiguous() -> None:
    def cloud(provider: str) -> Region:
        return Region(f"{provider}:north", "North", "SWE", 1.0, 2024, "2026", "", "", "", 1.1)

    regions = {region.code: region for region in (cloud("aws"), cloud("azure"))}
    with pytest.raises(PolicyError, match=r"ambiguous.*'aws:north' or 'azure:north'"):
        region_tables._find("north", regions)
    assert region_tables._find("azure:north", regions).code == "azure:north"


def test_all_regions_are_listed_once_with_provenance() -> None:
    regions = list_regions()
    assert len({region.code for region in regions}) == len(regions) > 350
    for region in regions:
        assert region.intensity_g_per_kwh >= 0
        assert region.source
        assert region.licence
        assert region.vintage.isdigit()
        assert find_region(region.code) == region


# --- grams


def test_operational_grams_by_hand() -> None:
    # 7.2 kJ x 1000 = 2 kWh; PUE 1.5: 3 kWh; 400 g/kWh: 1200 g.
    result = carbon_footprint(7200.0, 1.0, inferences=1000, intensity_g_per_kwh=400.0, pue=1.5)
    assert result.operational_g == pytest.approx(1200.0)
    assert (result.grid.region, result.grid.year, result.grid.vintage) == (None, None, None)
    assert result.grid.source == "given with --carbon-intensity"
    assert (result.embodied_g, result.total_g, result.sci_g_per_inference) == (None, None, None)
    assert any("operational only" in warning for warning in result.warnings)


def test_worked_example_of_the_sci() -> None:
    # ResNet-50 at 1.22 J: Germany 2025 331.6 g/kWh gives 0.112 mg, Finland 56.81 g/kWh 0.019 mg.
    assert carbon_footprint(1.22, 0.1, region=find_region("DEU")).operational_g == pytest.approx(0.112e-3, rel=5e-3)
    assert carbon_footprint(1.22, 0.1, region=find_region("FIN")).operational_g == pytest.approx(0.019e-3, rel=2e-2)


def test_embodied_share_total_and_sci_by_hand() -> None:
    embodied = Embodied(kgco2e=31.5576, lifetime_years=1.0, source="test")
    # One year has 31,557,600 s, so each second costs 1 mg; 2000 runs of 0.5 s cost 1 g.
    result = carbon_footprint(KWH_J, 0.5, inferences=2000, intensity_g_per_kwh=10.0, embodied=embodied)
    assert result.embodied_g == pytest.approx(1.0)
    assert result.operational_g == pytest.approx(20_000.0)
    assert result.total_g == pytest.approx(20_001.0)
    assert result.sci_g_per_inference == pytest.approx(20_001.0 / 2000)
    assert result.embodied_source == "test"
    assert result.warnings == ()


def test_pue_of_the_provider_unless_given() -> None:
    region = find_region("aws:eu-north-1")
    assert carbon_footprint(1.0, 1.0, region=region).grid.pue == 1.135
    assert carbon_footprint(1.0, 1.0, region=region, pue=1.4).grid.pue == 1.4
    home = carbon_footprint(1.0, 1.0, region=find_region("SWE"))
    assert (home.grid.pue, home.grid.pue_source) == (1.0, "1: no data centre overhead assumed")


def test_without_a_region_the_world_average_is_named() -> None:
    result = carbon_footprint(KWH_J, 1.0)
    assert (result.grid.region, result.grid.year, result.grid.vintage) == ("OWID_WRL", 2024, "2026")
    assert result.operational_g == pytest.approx(471.84)
    assert any("world average of 2024" in warning for warning in result.warnings)


def test_given_intensity_wins_over_the_region() -> None:
    result = carbon_footprint(KWH_J, 1.0, region=find_region("aws:eu-north-1"), intensity_g_per_kwh=100.0)
    assert result.operational_g == pytest.approx(113.5)
    assert (result.grid.region, result.grid.year, result.grid.source) == (
        "aws:eu-north-1",
        None,
        "given with --carbon-intensity",
    )


def test_zero_intensity_is_a_number_and_not_absence() -> None:
    result = carbon_footprint(KWH_J, 1.0, intensity_g_per_kwh=0.0)
    assert (result.grid.intensity_g_per_kwh, result.operational_g, result.grid.region) == (0.0, 0.0, None)


def test_report_object_has_the_keys_of_the_contract() -> None:
    keys = "region intensity_g_per_kwh year vintage source pue operational_g embodied_g total_g sci_g_per_inference"
    report = carbon_footprint(1.0, 1.0).to_dict()
    assert " ".join(list(report)[:10]) == keys
    assert report["sci"] == {"per": "inference", "inferences": 1, "g": None, "operational_g": report["operational_g"]}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"intensity_g_per_kwh": -1.0}, "--carbon-intensity"),
        ({"intensity_g_per_kwh": math.nan}, "--carbon-intensity"),
        ({"intensity_g_per_kwh": math.inf}, "--carbon-intensity"),
        ({"pue": 0.99}, "--pue"),
        ({"pue": math.nan}, "--pue"),
        ({"inferences": 0}, "--inferences"),
        ({"inferences": 10**400}, "--inferences"),
        ({"inferences": -5, "pue": 0.0}, "--inferences.*--pue"),
    ],
)
def test_options_out_of_range_are_named_together(options: dict[str, float], named: str) -> None:
    with pytest.raises(PolicyError, match=named):
        carbon_footprint(1.0, 1.0, **options)  # type: ignore[arg-type]


@given(st.floats(0, 1e6), st.floats(0, 1e3), st.floats(0, 2000), st.floats(1, 3), st.integers(1, 10**9))
def test_grams_are_proportional(joules: float, seconds: float, intensity: float, pue: float, count: int) -> None:
    embodied = Embodied(kgco2e=100.0, source="test")

    def grams(intensity: float, inferences: int) -> carbon.Carbon:
        return carbon_footprint(
            joules, seconds, inferences=inferences, intensity_g_per_kwh=intensity, pue=pue, embodied=embodied
        )

    once, double, many = grams(intensity, count), grams(2 * intensity, count), grams(intensity, 2 * count)
    assert double.operational_g == pytest.approx(2 * once.operational_g)
    assert double.embodied_g == once.embodied_g
    assert many.total_g == pytest.approx(2 * (once.total_g or 0.0))
    assert many.sci_g_per_inference == pytest.approx(once.sci_g_per_inference)
    assert once.total_g == pytest.approx(once.operational_g + (once.embodied_g or 0.0))


# --- years and vintages -------------------------------------------------------------------------------------------


def test_a_region_as_of_a_year_and_a_vintage() -> None:
    newest, older = find_region("DEU@2023"), find_region("germany@2023/2025")
    assert (newest.code, newest.intensity_g_per_kwh, newest.vintage) == ("DEU@2023/2026", 365.03, "2026")
    assert (older.code, older.intensity_g_per_kwh, older.year, older.vintage) == (
        "DEU@2023/2025",
        371.31064,
        2023,
        "2025",
    )
    assert find_region(older.code) == older
    with pytest.raises(PolicyError, match=r"DEU@1999.*DEU@2023/2025"):
        find_region("DEU@1999")


def test_germany_over_finland_by_vintage() -> None:
    """v1 of the eCAL paper says 4.62 from sources that it does not name; no shipped vintage gives that."""

    def ratio(moment: str) -> float:
        return find_region(f"DEU@{moment}").intensity_g_per_kwh / find_region(f"FIN@{moment}").intensity_g_per_kwh

    assert ratio("2023/2026") == pytest.approx(4.47, abs=5e-3)
    assert ratio("2023/2025") == pytest.approx(4.56, abs=5e-3)


# --- hours --------------------------------------------------------------------------------------------------------


def day(changes: dict[int, str] | None = None, header: str = "hour,g_per_kwh") -> str:
    rows = {hour: f"{hour},{100 + 10 * hour}" for hour in range(24)} | (changes or {})
    return "\n".join([header, *rows.values()]) + "\n"


def test_hourly_profile_by_hour_and_in_the_mean(tmp_path: Path) -> None:
    file = tmp_path / "day.csv"
    file.write_text(day(), encoding="utf-8")
    hourly = read_hourly(file)
    assert carbon_footprint(KWH_J, 1.0, hourly=hourly, hour=3).operational_g == pytest.approx(130.0)
    mean = carbon_footprint(KWH_J, 1.0, hourly=hourly)
    assert mean.operational_g == pytest.approx(215.0)
    assert (mean.grid.year, mean.grid.hour) == (None, None)
    assert "mean of 24 hours" in mean.grid.source
    assert hourly.cleanest_hour == 0
    cloud = carbon_footprint(KWH_J, 1.0, hourly=hourly, hour=0, region=find_region("aws:eu-north-1"))
    assert cloud.operational_g == pytest.approx(113.5)  # the PUE of the region, the intensity of the hour


def test_columns_in_any_order_spaces_and_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "day.csv"
    rows = "\n".join(f"x, {200}, {hour}" for hour in reversed(range(24)))
    file.write_bytes(b"\xef\xbb\xbfzone, g_per_kwh, hour\r\n" + rows.replace("\n", "\r\n\r\n").encode())
    assert read_hourly(file).g_per_kwh == (200.0,) * 24


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (day({5: "24,100"}), r"line 7: hour '24'.*0 to 23"),
        (day({5: "-1,100"}), r"line 7: hour '-1'"),
        (day({5: "5.5,100"}), r"line 7: hour '5.5'"),
        (day({5: "4,100"}), r"line 7: hour 4 is given twice"),
        (day({5: "5,nan"}), r"line 7: g_per_kwh 'nan'"),
        (day({5: "5,-1"}), r"line 7: g_per_kwh '-1'"),
        (day({5: "5,1e9"}), r"line 7: g_per_kwh '1e9'"),
        (day({5: "5"}), r"line 7: g_per_kwh ''"),
        (day({5: ""}), r"no value for hour 5"),
        (day(header="hours,g_per_kwh"), r"line 1: no column 'hour'; did you mean 'hours'"),
        ("", r"line 1"),
    ],
)
def test_bad_hourly_profiles_name_the_line(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "day.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError, match=named) as caught:
        read_hourly(file)
    assert "\n" not in str(caught.value)


def test_hourly_profile_that_is_no_file_of_text(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="directory"):
        read_hourly(tmp_path)
    with pytest.raises(PolicyError, match="no such file"):
        read_hourly(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes(b"hour,g_per_kwh\n0,\xe9\n")
    with pytest.raises(PolicyError, match="line 2: not UTF-8"):
        read_hourly(tmp_path / "latin.csv")


@pytest.mark.parametrize("hour", [-1, 24])
def test_hour_outside_the_day(tmp_path: Path, hour: int) -> None:
    (tmp_path / "day.csv").write_text(day(), encoding="utf-8")
    with pytest.raises(PolicyError, match=f"--hour {hour}: .*0 to 23"):
        carbon_footprint(1.0, 1.0, hourly=read_hourly(tmp_path / "day.csv"), hour=hour)


def test_options_that_exclude_or_need_each_other(tmp_path: Path) -> None:
    (tmp_path / "day.csv").write_text(day(), encoding="utf-8")
    with pytest.raises(PolicyError, match="give one of them"):
        carbon_footprint(1.0, 1.0, hourly=read_hourly(tmp_path / "day.csv"), intensity_g_per_kwh=1.0)
    with pytest.raises(PolicyError, match="--hour 3: needs --carbon-profile"):
        carbon_footprint(1.0, 1.0, hour=3)


# --- SCI, embodied, scope -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("per", "number", "inferences"), [("inference", None, 1), ("1000", None, 1000), ("user", 250, 250)]
)
def test_sci_per_functional_unit(per: str, number: int | None, inferences: int) -> None:
    embodied = Embodied(kgco2e=31.5576, lifetime_years=1.0, source="test")
    unit = functional_unit(per, number)
    result = carbon_footprint(KWH_J, 0.5, inferences=10, intensity_g_per_kwh=10.0, embodied=embodied, unit=unit)
    # 10 g and 0.5 mg per inference.
    assert result.sci_g_per_inference == pytest.approx(10.0005)
    assert result.sci_g == pytest.approx(10.0005 * inferences)


@pytest.mark.parametrize(
    ("per", "number", "named"),
    [
        ("users", None, "did you mean 'user'"),
        ("user", None, "--inferences-per-user N"),
        ("request", 0, "--inferences-per-request 0"),
        ("1000", 5, "takes no number"),
    ],
)
def test_bad_functional_units(per: str, number: int | None, named: str) -> None:
    with pytest.raises(PolicyError, match=named):
        functional_unit(per, number)


def test_embodied_given_in_place_of_the_profiles() -> None:
    published = Embodied(kgco2e=100.0, lifetime_years=4.0, source="maker; lifetime: 4 years")
    assert embodied_given(published) == published
    assert embodied_given(None) is None
    changed = embodied_given(published, lifetime_years=5.0)
    assert changed is not None
    assert (changed.kgco2e, changed.lifetime_years, changed.source) == (
        100.0,
        5.0,
        "maker; lifetime given with --lifetime-years",
    )
    own = embodied_given(None, 50.0)
    assert own is not None
    assert (own.kgco2e, own.lifetime_years) == (50.0, 4.0)
    for wrong in ({"kgco2e": -1.0}, {"kgco2e": math.nan}, {"lifetime_years": 0.0}, {"lifetime_years": math.inf}):
        with pytest.raises(PolicyError, match=r"--embodied-kg|--lifetime-years"):
            embodied_given(published, **wrong)
    with pytest.raises(PolicyError, match="--embodied-kg"):
        embodied_given(None, lifetime_years=3.0)


def test_utilization_spreads_the_making_over_the_time_that_is_used() -> None:
    embodied = Embodied(kgco2e=10.0, source="test")
    full = carbon_footprint(1.0, 1.0, embodied=embodied)
    tenth = carbon_footprint(1.0, 1.0, embodied=embodied, utilization=0.1)
    assert tenth.embodied_g == pytest.approx(10 * (full.embodied_g or 0.0))
    assert tenth.operational_g == full.operational_g  # the static power of the rest is in the joules already


def test_unknown_energy_gives_unknown_grams() -> None:
    result = carbon_footprint(None, None, embodied=Embodied(kgco2e=1.0, source="test"))
    assert (result.operational_g, result.embodied_g, result.total_g, result.sci_g) == (None,) * 4
    assert any("unknown" in warning for warning in result.warnings)


def test_scope_is_named_and_comes_from_the_profile() -> None:
    component = load_profile("reference-cpu")
    wall = changed(component, provenance={"scope": "wall"})
    assert (profile_scope(component), profile_scope(wall)) == ("component", "wall")
    report = carbon_footprint(1.0, 1.0, scope="wall").to_dict()
    assert report["scope"] == "wall"
    assert "wall" in str(report["scope_note"])
    assert "lower bound" in str(carbon_footprint(1.0, 1.0).to_dict()["scope_note"])
