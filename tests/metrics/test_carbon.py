"""Carbon: regions, grams by hand, and options out of range."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_aiwq.errors import PolicyError
from onnx_aiwq.metrics import carbon
from onnx_aiwq.metrics.carbon import Region, carbon_footprint, find_region, list_regions, world_average
from onnx_aiwq.profiles import Embodied

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
        carbon._find("north", regions)
    assert carbon._find("azure:north", regions).code == "azure:north"


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
    assert (result.region, result.year, result.vintage) == (None, None, None)
    assert result.source == "given with --carbon-intensity"
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
    assert carbon_footprint(1.0, 1.0, region=region).pue == 1.135
    assert carbon_footprint(1.0, 1.0, region=region, pue=1.4).pue == 1.4
    home = carbon_footprint(1.0, 1.0, region=find_region("SWE"))
    assert (home.pue, home.pue_source) == (1.0, "1: no data centre overhead assumed")


def test_without_a_region_the_world_average_is_named() -> None:
    result = carbon_footprint(KWH_J, 1.0)
    assert (result.region, result.year, result.vintage) == ("OWID_WRL", 2024, "2026")
    assert result.operational_g == pytest.approx(471.84)
    assert any("world average of 2024" in warning for warning in result.warnings)


def test_given_intensity_wins_over_the_region() -> None:
    result = carbon_footprint(KWH_J, 1.0, region=find_region("aws:eu-north-1"), intensity_g_per_kwh=100.0)
    assert result.operational_g == pytest.approx(113.5)
    assert (result.region, result.year, result.source) == ("aws:eu-north-1", None, "given with --carbon-intensity")


def test_zero_intensity_is_a_number_and_not_absence() -> None:
    result = carbon_footprint(KWH_J, 1.0, intensity_g_per_kwh=0.0)
    assert (result.intensity_g_per_kwh, result.operational_g, result.region) == (0.0, 0.0, None)


def test_report_object_has_the_keys_of_the_contract() -> None:
    keys = "region intensity_g_per_kwh year vintage source pue operational_g embodied_g total_g sci_g_per_inference"
    assert " ".join(carbon_footprint(1.0, 1.0).to_dict()) == keys


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
