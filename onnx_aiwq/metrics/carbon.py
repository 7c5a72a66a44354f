"""Carbon: grams of CO2-equivalent of running inferences, and their share of making the hardware.

    operational_g = joules x inferences x PUE / 3.6e6 x intensity            (AIWQ eq. 17, eCAL CF = E x CI)
    embodied_g    = embodied kg x 1000 x seconds x inferences / lifetime      (SCI: M = TE x TiR / EL)
    sci           = (operational_g + embodied_g) / inferences                 (SCI = (O + M) per R, R = one inference)

Intensities are life-cycle figures of average generation, each with its year and the vintage of its data set; both
change the number (Germany over Finland in 2023 is 4.81, 4.56 or 4.47 by vintage). Nothing is read from the network.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from onnx_aiwq.errors import PolicyError, suggestion
from onnx_aiwq.metrics.ecal import MAX_INFERENCES
from onnx_aiwq.units import JOULES_PER_KWH

if TYPE_CHECKING:
    from onnx_aiwq.profiles import Embodied

WORLD = "OWID_WRL"
SECONDS_PER_YEAR = 31_557_600  # a Julian year of 365.25 days
GRAMS_PER_KG = 1000.0
# What lies beyond is a slip of units, not a grid or a data centre.
HIGHEST_INTENSITY_G_PER_KWH = 1e5
HIGHEST_PUE = 100.0
_ALIASES = {"world": WORLD, "eu": "OWID_EU27", "eu27": "OWID_EU27"}


@dataclass(frozen=True, slots=True)
class Region:
    """A grid with its carbon intensity.

    Attributes:
        code: ISO 3166 alpha-3 (``DEU``), an aggregate's (``OWID_WRL``), or ``provider:region`` (``aws:eu-central-1``).
        name: country, or the place of a cloud region.
        iso3: country of a cloud region; else the code.
        intensity_g_per_kwh: gCO2e/kWh.
        year: of the electricity.
        vintage: year of the data set that the value was taken from.
        basis: what the value is an average of.
        source: data set and copy.
        licence: of the value.
        pue: average PUE of the cloud provider; None for a country.
    """

    code: str
    name: str
    iso3: str
    intensity_g_per_kwh: float
    year: int
    vintage: str
    basis: str
    source: str
    licence: str
    pue: float | None = None

    @property
    def short_name(self) -> str:
        """The name to look it up by beside the code: of a country, or of a cloud region without its provider."""
        return self.code.partition(":")[2] or self.name


@dataclass(frozen=True, slots=True)
class Carbon:
    """Footprint of a number of inferences.

    Attributes:
        region: code of the grid; None where only an intensity was given.
        intensity_g_per_kwh: gCO2e/kWh.
        year: of the intensity; None where it was given.
        vintage: of its data set; None where it was given.
        source: of the intensity.
        pue: power usage effectiveness.
        pue_source: where the PUE comes from.
        operational_g: of the electricity, gCO2e.
        embodied_g: share of making the hardware, gCO2e; None where no figure is known.
        total_g: operational + embodied, gCO2e; None where the embodied part is unknown.
        sci_g_per_inference: total per inference, gCO2e; None likewise.
        embodied_source: of the embodied figure and lifetime; None where unknown.
        inferences: number of inferences.
        warnings: assumptions that were made, to be shown with the numbers.
    """

    region: str | None
    intensity_g_per_kwh: float
    year: int | None
    vintage: str | None
    source: str
    pue: float
    pue_source: str
    operational_g: float
    embodied_g: float | None
    total_g: float | None
    sci_g_per_inference: float | None
    embodied_source: str | None
    inferences: int
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """The ``carbon`` object of the JSON report."""
        keys = "region intensity_g_per_kwh year vintage source pue operational_g embodied_g total_g sci_g_per_inference"
        return {key: getattr(self, key) for key in keys.split()}


def list_regions() -> list[Region]:
    """Every country, aggregate and cloud region, sorted by code."""
    return sorted(_regions().values(), key=lambda region: region.code)


def find_region(code: str) -> Region:
    """The region of a code or a name, compared without case.

    Accepts ISO 3166 alpha-3 codes and aggregates (``DEU``, ``OWID_WRL``, ``world``, ``EU``), country names, cloud
    regions (``aws:eu-central-1``), and bare cloud regions where only one provider has that name.

    Raises:
        PolicyError: if there is no such region, or several.
    """
    return _find(code, _regions())


def _find(code: str, regions: Mapping[str, Region]) -> Region:
    wanted = code.strip().casefold()
    wanted = _ALIASES.get(wanted, wanted).casefold()
    by_code = {known.casefold(): region for known, region in regions.items()}
    if wanted in by_code:
        return by_code[wanted]
    candidates = [region for region in regions.values() if wanted == region.short_name.casefold()]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        names = " or ".join(repr(region.code) for region in candidates)
        raise PolicyError(f"--region {code!r} is ambiguous: choose {names}")
    known = [*regions, *(region.short_name for region in regions.values())]
    raise PolicyError(
        f"--region {code!r}: no such region;{suggestion(code, known)} expected an ISO 3166 alpha-3 code (DEU), a "
        "country name or a cloud region (aws:eu-central-1); `aiwq regions` lists all, --carbon-intensity takes a number"
    )


def world_average() -> Region:
    """The world average of the newest full year: the named assumption where no region is given."""
    return _regions()[WORLD]


def _table(name: str) -> list[dict[str, str]]:
    text = (resources.files("onnx_aiwq") / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@functools.cache
def _regions() -> dict[str, Region]:
    """All regions by code."""
    regions = {row["iso3"]: _country(row) for row in _table("carbon_intensity.csv")}
    country_vintage = regions[WORLD].vintage
    for row in _table("cloud_regions.csv"):
        region = _cloud_region(row, country_vintage)
        regions[region.code] = region
    return regions


def _country(row: Mapping[str, str]) -> Region:
    vintage = re.search(r"(\d{4}) vintage", row["source"])
    return Region(
        code=row["iso3"],
        name=row["name"],
        iso3=row["iso3"],
        intensity_g_per_kwh=float(row["gco2e_per_kwh_latest"]),
        year=int(row["year_latest"]),
        vintage=vintage.group(1) if vintage else "unknown",
        basis=row["basis"],
        source=row["source"],
        licence=row["source_licence"],
    )


def _cloud_region(row: Mapping[str, str], country_vintage: str) -> Region:
    # A value that is a country's average is of the country table's vintage; Google publishes its own once a year.
    is_country_average = "carbon_intensity.csv" in row["source"]
    return Region(
        code=f"{row['provider']}:{row['region']}",
        name=row["location"],
        iso3=row["iso3"],
        intensity_g_per_kwh=float(row["gco2e_per_kwh"]),
        year=int(row["year"]),
        vintage=country_vintage if is_country_average else row["year"],
        basis=row["basis"],
        source=row["source"],
        licence=row["licence"],
        pue=float(row["pue_provider_avg"]),
    )


def carbon_footprint(
    joules_per_inference: float,
    seconds_per_inference: float,
    *,
    inferences: int = 1,
    region: Region | None = None,
    intensity_g_per_kwh: float | None = None,
    pue: float | None = None,
    embodied: Embodied | None = None,
) -> Carbon:
    """Footprint of a number of inferences.

    Args:
        joules_per_inference: J.
        seconds_per_inference: s that the hardware is reserved for.
        inferences: number of inferences.
        region: grid; the world average where neither it nor an intensity is given.
        intensity_g_per_kwh: gCO2e/kWh, instead of the region's.
        pue: power usage effectiveness; the provider's average for a cloud region, else 1, unless given.
        embodied: greenhouse gas of making the hardware; None where unknown.

    Raises:
        PolicyError: if an option is out of its range; the message names it.
    """
    _check_options(inferences, intensity_g_per_kwh, pue)
    assumed = region is None and intensity_g_per_kwh is None
    grid = world_average() if assumed else region
    intensity, published = _intensity(grid, intensity_g_per_kwh)
    chosen_pue, pue_source = _pue(grid, pue)
    operational_g = joules_per_inference * inferences * chosen_pue / JOULES_PER_KWH * intensity
    embodied_g = None if embodied is None else _embodied_g(embodied, seconds_per_inference * inferences)
    total_g = None if embodied_g is None else operational_g + embodied_g
    return Carbon(
        region=None if grid is None else grid.code,
        intensity_g_per_kwh=intensity,
        year=None if published is None else published.year,
        vintage=None if published is None else published.vintage,
        source="given with --carbon-intensity" if published is None else published.source,
        pue=chosen_pue,
        pue_source=pue_source,
        operational_g=operational_g,
        embodied_g=embodied_g,
        total_g=total_g,
        sci_g_per_inference=None if total_g is None else total_g / inferences,
        embodied_source=None if embodied is None else embodied.source,
        inferences=inferences,
        warnings=_assumptions(grid if assumed else None, embodied),
    )


def _embodied_g(embodied: Embodied, seconds: float) -> float:
    """The share of making the hardware that some seconds of its life carry, gCO2e."""
    return embodied.kgco2e * GRAMS_PER_KG * seconds / (embodied.lifetime_years * SECONDS_PER_YEAR)


def _assumptions(assumed: Region | None, embodied: Embodied | None) -> tuple[str, ...]:
    assumptions = []
    if assumed is not None:
        assumptions.append(
            f"no region given: the world average of {assumed.year} is assumed, {assumed.intensity_g_per_kwh:g} "
            "gCO2e/kWh; --region or --carbon-intensity names the real one"
        )
    if embodied is None:
        assumptions.append("no embodied figure for this hardware: grams are operational only, and there is no total")
    return tuple(assumptions)


def _check_options(inferences: int, intensity_g_per_kwh: float | None, pue: float | None) -> None:
    problems = []
    if not 1 <= inferences <= MAX_INFERENCES:
        problems.append(f"--inferences {inferences}: expected a whole number from 1 to {MAX_INFERENCES:.0e}")
    if intensity_g_per_kwh is not None and not 0 <= intensity_g_per_kwh <= HIGHEST_INTENSITY_G_PER_KWH:
        problems.append(
            f"--carbon-intensity {intensity_g_per_kwh}: expected gCO2e/kWh from 0 to {HIGHEST_INTENSITY_G_PER_KWH:g}"
        )
    if pue is not None and not 1 <= pue <= HIGHEST_PUE:
        problems.append(f"--pue {pue}: expected a number from 1 (a data centre without overhead) to {HIGHEST_PUE:g}")
    if problems:
        raise PolicyError("; ".join(problems))


def _intensity(grid: Region | None, given_g_per_kwh: float | None) -> tuple[float, Region | None]:
    """The intensity in gCO2e/kWh, and the region that publishes it; None where it was given as a number."""
    if given_g_per_kwh is not None:
        return given_g_per_kwh, None
    published = grid or world_average()
    return published.intensity_g_per_kwh, published


def _pue(region: Region | None, given: float | None) -> tuple[float, str]:
    if given is not None:
        return given, "given with --pue"
    if region is not None and region.pue is not None:
        return region.pue, f"average of {region.code.partition(':')[0]}"
    return 1.0, "1: no data centre overhead assumed"
