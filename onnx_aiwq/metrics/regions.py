"""Grids and cloud regions with their carbon intensity, each figure with its year, vintage, basis and licence.

The year of the electricity and the vintage of the data set both change the number, so both travel with it. A region may
be asked for as of a year (``DEU@2023``) and of a vintage of the data set (``DEU@2023/2025``). Nothing is read from the
network: the tables are shipped with the package.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Mapping
from importlib import resources

import msgspec
from msgspec.structs import replace

from onnx_aiwq.errors import PolicyError, suggestion

WORLD = "OWID_WRL"
_ALIASES = {"world": WORLD, "eu": "OWID_EU27", "eu27": "OWID_EU27"}


class Figure(msgspec.Struct, frozen=True):
    """One published carbon intensity.

    Attributes:
        intensity_g_per_kwh: gCO2e/kWh.
        year: of the electricity.
        vintage: year of the data set.
    """

    intensity_g_per_kwh: float
    year: int
    vintage: str


class Region(msgspec.Struct, frozen=True):
    """A grid with its carbon intensity.

    Attributes:
        code: ISO 3166 alpha-3 (``DEU``), an aggregate's (``OWID_WRL``), or ``provider:region`` (``aws:eu-central-1``);
            with ``@YEAR/VINTAGE`` where another figure than the newest was asked for.
        name: country, or the place of a cloud region.
        iso3: country of a cloud region; else the code.
        intensity_g_per_kwh: gCO2e/kWh.
        year: of the electricity.
        vintage: year of the data set that the value was taken from.
        basis: what the value is an average of.
        source: data set and copy.
        licence: of the value.
        pue: average PUE of the cloud provider; None for a country.
        figures: every shipped figure of the region, the newest first; the first is the default.
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
    figures: tuple[Figure, ...] = ()

    @property
    def short_name(self) -> str:
        """The name to look it up by beside the code: of a country, or of a cloud region without its provider."""
        return self.code.partition(":")[2] or self.name


def list_regions() -> list[Region]:
    """Every country, aggregate and cloud region, sorted by code."""
    return sorted(_regions().values(), key=lambda region: region.code)


def find_region(code: str) -> Region:
    """The region of a code or a name, compared without case.

    Accepts ISO 3166 alpha-3 codes and aggregates (``DEU``, ``OWID_WRL``, ``world``, ``EU``), country names, cloud
    regions (``aws:eu-central-1``), and bare cloud regions where only one provider has that name; each with ``@YEAR`` or
    ``@YEAR/VINTAGE`` for another figure than the newest.

    Raises:
        PolicyError: if there is no such region or figure, or several regions.
    """
    return _find(code, _regions())


def world_average() -> Region:
    """The world average of the newest full year: the named assumption where no region is given."""
    return _country(_countries()[WORLD])


def _find(code: str, regions: Mapping[str, Region]) -> Region:
    place, separator, moment = code.strip().partition("@")
    wanted = place.strip().casefold()
    wanted = _ALIASES.get(wanted, wanted).casefold()
    by_code = {known.casefold(): region for known, region in regions.items()}
    if wanted in by_code:
        return _as_of(by_code[wanted], moment) if separator else by_code[wanted]
    candidates = [region for region in regions.values() if wanted == region.short_name.casefold()]
    if len(candidates) == 1:
        return _as_of(candidates[0], moment) if separator else candidates[0]
    if candidates:
        names = " or ".join(repr(region.code) for region in candidates)
        raise PolicyError(f"--region {code!r} is ambiguous: choose {names}")
    known = [*regions, *(region.short_name for region in regions.values())]
    raise PolicyError(
        f"--region {code!r}: no such region;{suggestion(place, known)} expected an ISO 3166 alpha-3 code (DEU), a "
        "country name or a cloud region (aws:eu-central-1); `aiwq regions` lists all, --carbon-intensity takes a number"
    )


def _as_of(region: Region, moment: str) -> Region:
    """The region with the figure of ``YEAR`` (its newest vintage) or ``YEAR/VINTAGE``."""
    year, _, vintage = moment.strip().partition("/")
    for figure in region.figures:
        if str(figure.year) == year and vintage in ("", figure.vintage):
            return replace(
                region,
                code=f"{region.code}@{figure.year}/{figure.vintage}",
                intensity_g_per_kwh=figure.intensity_g_per_kwh,
                year=figure.year,
                vintage=figure.vintage,
            )
    known = ", ".join(f"{region.code}@{figure.year}/{figure.vintage}" for figure in region.figures)
    raise PolicyError(f"--region {region.code}@{moment}: no such figure; expected one of {known}")


def _table(name: str) -> list[dict[str, str]]:
    text = (resources.files("onnx_aiwq") / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@functools.cache
def _countries() -> dict[str, dict[str, str]]:
    """Rows of the table of countries by code."""
    return {row["iso3"]: row for row in _table("carbon_intensity.csv")}


@functools.cache
def _regions() -> dict[str, Region]:
    """All regions by code."""
    regions = {code: _country(row) for code, row in _countries().items()}
    country_vintage = regions[WORLD].vintage
    for row in _table("cloud_regions.csv"):
        region = _cloud_region(row, country_vintage)
        regions[region.code] = region
    return regions


_VINTAGE_COLUMN = re.compile(r"gco2e_per_kwh_(\d{4})(?:_vintage(\d{4}))?")


def _country(row: Mapping[str, str]) -> Region:
    found = re.search(r"(\d{4}) vintage", row["source"])
    vintage = found.group(1) if found else "unknown"
    newest = Figure(float(row["gco2e_per_kwh_latest"]), int(row["year_latest"]), vintage)
    figures = {(newest.year, newest.vintage): newest}
    for column, value in row.items():
        named = _VINTAGE_COLUMN.fullmatch(column)
        if named and value:
            figure = Figure(float(value), int(named.group(1)), named.group(2) or vintage)
            figures.setdefault((figure.year, figure.vintage), figure)
    return Region(
        code=row["iso3"],
        name=row["name"],
        iso3=row["iso3"],
        intensity_g_per_kwh=newest.intensity_g_per_kwh,
        year=newest.year,
        vintage=vintage,
        basis=row["basis"],
        source=row["source"],
        licence=row["source_licence"],
        figures=tuple(figures[key] for key in sorted(figures, reverse=True)),
    )


def _cloud_region(row: Mapping[str, str], country_vintage: str) -> Region:
    # A value that is a country's average is of the country table's vintage; Google publishes its own once a year.
    is_country_average = "carbon_intensity.csv" in row["source"]
    figure = Figure(
        float(row["gco2e_per_kwh"]), int(row["year"]), country_vintage if is_country_average else row["year"]
    )
    return Region(
        code=f"{row['provider']}:{row['region']}",
        name=row["location"],
        iso3=row["iso3"],
        intensity_g_per_kwh=figure.intensity_g_per_kwh,
        year=figure.year,
        vintage=figure.vintage,
        basis=row["basis"],
        source=row["source"],
        licence=row["licence"],
        pue=float(row["pue_provider_avg"]),
        figures=(figure,),
    )
