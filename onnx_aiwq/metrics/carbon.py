"""Carbon: grams of CO2-equivalent of running inferences, and their share of making the hardware.

    operational_g = joules x PUE / 3.6e6 x intensity                          (AIWQ eq. 17, eCAL CF = E x CI)
    embodied_g    = embodied kg x 1000 x seconds / utilization / lifetime     (SCI: M = TE x TiR / EL)
    sci           = (operational_g + embodied_g) per R                        (ISO/IEC 21031: SCI = (E x I + M) per R)

R, the functional unit, is an inference, 1,000 inferences, a user or a request. Intensities are life-cycle figures of
average generation, each with its year and the vintage of its data set, or an hourly profile of the user's own.

The energy of a component (a processor) and that at the wall are two quantities: the scope is named, never mixed. PUE is
what a data centre adds to the energy of its IT equipment at the wall; over a component's joules the result is a lower
bound, and says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from onnx_aiwq.errors import PolicyError, suggestion
from onnx_aiwq.metrics.ecal import MAX_INFERENCES, check_inferences
from onnx_aiwq.metrics.hourly import HIGHEST_INTENSITY_G_PER_KWH
from onnx_aiwq.metrics.regions import Region, world_average
from onnx_aiwq.units import JOULES_PER_KWH

if TYPE_CHECKING:
    from onnx_aiwq.hardware_profile import Embodied, HardwareProfile
    from onnx_aiwq.metrics.hourly import HourlyIntensity

SECONDS_PER_YEAR = 31_557_600  # a Julian year of 365.25 days
GRAMS_PER_KG = 1000.0
# What lies beyond is a slip of units, not a data centre or a machine.
HIGHEST_PUE = 100.0
HIGHEST_EMBODIED_KG = 1e9
COMPONENT, WALL = "component", "wall"
SCOPES = {
    COMPONENT: "the processor alone: no power supply, no other parts; PUE over it gives a lower bound",
    WALL: "whole machine at the wall, as the profile measured it",
}
UNITS = ("inference", "1000", "user", "request")


class FunctionalUnit(msgspec.Struct, frozen=True):
    """R of the SCI: what the grams are divided by.

    Attributes:
        name: in words.
        inferences: that one unit makes.
    """

    name: str = "inference"
    inferences: int = 1


ONE_INFERENCE = FunctionalUnit()


def functional_unit(per: str = "inference", inferences: int | None = None) -> FunctionalUnit:
    """R of the SCI.

    Args:
        per: one of `UNITS`.
        inferences: that one user or request makes; for these two only.

    Raises:
        PolicyError: if `per` is none of these, or the inferences of a user or request are missing or out of range.
    """
    if per not in UNITS:
        raise PolicyError(f"--per {per!r}: expected one of {', '.join(UNITS)};{suggestion(per, UNITS)}".rstrip(";"))
    option = f"--inferences-per-{per}"
    if per in ("inference", "1000"):
        if inferences is not None:
            raise PolicyError(f"--per {per}: takes no number of inferences; --per user and --per request do")
        return FunctionalUnit() if per == "inference" else FunctionalUnit("1000 inferences", 1000)
    if inferences is None:
        raise PolicyError(f"--per {per}: give {option} N, the inferences that one {per} makes")
    if not 1 <= inferences <= MAX_INFERENCES:
        raise PolicyError(f"{option} {inferences}: expected a whole number from 1 to {MAX_INFERENCES:.0e}")
    return FunctionalUnit(per, inferences)


@dataclass(frozen=True, slots=True)
class Grid:
    """The electricity that joules come from, and what a data centre adds.

    Attributes:
        region: code; None where only an intensity was given.
        intensity_g_per_kwh: gCO2e/kWh.
        year: of the intensity; None where it was given.
        vintage: of its data set; None where it was given.
        source: of the intensity.
        pue: power usage effectiveness.
        pue_source: where the PUE comes from.
        hour: of the day that the intensity is for; None for a mean.
        assumption: what was assumed because nothing was given, to be shown with the numbers.
    """

    region: str | None
    intensity_g_per_kwh: float
    year: int | None
    vintage: str | None
    source: str
    pue: float
    pue_source: str
    hour: int | None = None
    assumption: str | None = None


class Carbon(msgspec.Struct, frozen=True):
    """Footprint of a number of inferences, or of the life cycle around them.

    Attributes:
        grid: the electricity.
        operational_g: of the electricity, gCO2e; None where the energy is unknown.
        embodied_g: share of making the hardware, gCO2e; None where no figure is known.
        total_g: operational + embodied, gCO2e; None where either is unknown.
        sci_g_per_inference: total per inference, gCO2e; None likewise.
        unit: R of the SCI.
        sci_g: total per functional unit, gCO2e; None likewise.
        embodied_source: of the embodied figure and lifetime; None where unknown.
        inferences: number of inferences.
        scope: of the joules, one of `SCOPES`.
        covers: the stages that the grams are of.
        warnings: assumptions that were made, to be shown with the numbers.
    """

    grid: Grid
    operational_g: float | None
    embodied_g: float | None
    total_g: float | None
    sci_g_per_inference: float | None
    unit: FunctionalUnit
    sci_g: float | None
    embodied_source: str | None
    inferences: int
    scope: str
    covers: str
    warnings: tuple[str, ...]

    def _per_unit(self, grams: float | None) -> float | None:
        return None if grams is None else grams / self.inferences * self.unit.inferences

    def to_dict(self) -> dict[str, object]:
        """The ``carbon`` object of the JSON report."""
        grid = self.grid
        return {
            "region": grid.region,
            "intensity_g_per_kwh": grid.intensity_g_per_kwh,
            "year": grid.year,
            "vintage": grid.vintage,
            "source": grid.source,
            "pue": grid.pue,
            "operational_g": self.operational_g,
            "embodied_g": self.embodied_g,
            "total_g": self.total_g,
            "sci_g_per_inference": self.sci_g_per_inference,
            "sci": {
                "per": self.unit.name,
                "inferences": self.unit.inferences,
                "g": self.sci_g,
                "operational_g": self._per_unit(self.operational_g),
            },
            "hour": grid.hour,
            "pue_source": grid.pue_source,
            "embodied_source": self.embodied_source,
            "inferences": self.inferences,
            "scope": self.scope,
            "scope_note": SCOPES[self.scope],
            "covers": self.covers,
        }


def resolve_grid(
    *,
    region: Region | None = None,
    intensity_g_per_kwh: float | None = None,
    hourly: HourlyIntensity | None = None,
    hour: int | None = None,
    pue: float | None = None,
) -> Grid:
    """The electricity that options describe; the world average where neither place nor intensity is given.

    Args:
        region: grid; its PUE counts even where the intensity is given otherwise.
        intensity_g_per_kwh: gCO2e/kWh, instead of the region's.
        hourly: intensity by hour of day, instead of the region's.
        hour: of the day, for `hourly`; its mean if None.
        pue: power usage effectiveness; the provider's average for a cloud region, else 1, unless given.

    Raises:
        PolicyError: if an option is out of its range or two exclude each other; the message names them.
    """
    _check_grid(intensity_g_per_kwh, hourly, hour, pue)
    chosen_pue, pue_source = _pue(region, pue)
    code = None if region is None else region.code
    if hourly is not None:
        when = "mean of 24 hours" if hour is None else f"at hour {hour}"
        source = f"{hourly.source} ({when}; --carbon-profile)"
        return Grid(code, hourly.at(hour), None, None, source, chosen_pue, pue_source, hour)
    if intensity_g_per_kwh is not None:
        return Grid(code, intensity_g_per_kwh, None, None, "given with --carbon-intensity", chosen_pue, pue_source)
    place = region or world_average()
    assumption = None
    if region is None:
        assumption = (
            f"no region given: the world average of {place.year} is assumed, {place.intensity_g_per_kwh:g} "
            "gCO2e/kWh; --region or --carbon-intensity names the real one"
        )
    return Grid(
        region=place.code,
        intensity_g_per_kwh=place.intensity_g_per_kwh,
        year=place.year,
        vintage=place.vintage,
        source=place.source,
        pue=chosen_pue,
        pue_source=pue_source,
        assumption=assumption,
    )


def _check_grid(
    intensity_g_per_kwh: float | None, hourly: HourlyIntensity | None, hour: int | None, pue: float | None
) -> None:
    problems = []
    if intensity_g_per_kwh is not None and not 0 <= intensity_g_per_kwh <= HIGHEST_INTENSITY_G_PER_KWH:
        problems.append(
            f"--carbon-intensity {intensity_g_per_kwh}: expected gCO2e/kWh from 0 to {HIGHEST_INTENSITY_G_PER_KWH:g}"
        )
    if intensity_g_per_kwh is not None and hourly is not None:
        problems.append("--carbon-intensity and --carbon-profile: give one of them")
    if hour is not None and hourly is None:
        problems.append(f"--hour {hour}: needs --carbon-profile FILE, the intensity by hour of day")
    if pue is not None and not 1 <= pue <= HIGHEST_PUE:
        problems.append(f"--pue {pue}: expected a number from 1 (a data centre without overhead) to {HIGHEST_PUE:g}")
    if problems:
        raise PolicyError("; ".join(problems))


def _pue(region: Region | None, given: float | None) -> tuple[float, str]:
    if given is not None:
        return given, "given with --pue"
    if region is not None and region.pue is not None:
        return region.pue, f"average of {region.code.partition(':')[0]}"
    return 1.0, "1: no data centre overhead assumed"


def carbon_footprint(
    joules_per_inference: float | None,
    seconds_per_inference: float | None,
    *,
    inferences: int = 1,
    region: Region | None = None,
    intensity_g_per_kwh: float | None = None,
    hourly: HourlyIntensity | None = None,
    hour: int | None = None,
    pue: float | None = None,
    embodied: Embodied | None = None,
    utilization: float = 1.0,
    unit: FunctionalUnit = ONE_INFERENCE,
    scope: str = COMPONENT,
) -> Carbon:
    """Footprint of a number of inferences.

    Args:
        joules_per_inference: J; None where unknown.
        seconds_per_inference: s that the hardware works for it; None where unknown.
        inferences: number of inferences.
        region: see `resolve_grid`, as for `intensity_g_per_kwh`, `hourly`, `hour` and `pue`.
        embodied: greenhouse gas of making the hardware; None where unknown.
        utilization: share of its life that the hardware does this work; its making is spread over that share.
        unit: R of the SCI.
        scope: of the joules, one of `SCOPES`.

    Raises:
        PolicyError: if an option is out of its range; the message names it.
    """
    problems = []
    grid = None
    try:
        check_inferences(inferences)
    except PolicyError as error:
        problems.append(str(error))
    try:
        grid = resolve_grid(region=region, intensity_g_per_kwh=intensity_g_per_kwh, hourly=hourly, hour=hour, pue=pue)
    except PolicyError as error:
        problems.append(str(error))
    if grid is None or problems:
        raise PolicyError("; ".join(problems))
    seconds = None if seconds_per_inference is None else seconds_per_inference * inferences
    embodied_g = None if embodied is None or seconds is None else embodied_share_g(embodied, seconds / utilization)
    return footprint(
        None if joules_per_inference is None else joules_per_inference * inferences,
        embodied_g,
        grid=grid,
        inferences=inferences,
        embodied_source=None if embodied is None else embodied.source,
        unit=unit,
        scope=scope,
    )


def footprint(
    joules: float | None,
    embodied_g: float | None,
    *,
    grid: Grid,
    inferences: int,
    embodied_source: str | None = None,
    joules_outside: float = 0.0,
    unit: FunctionalUnit = ONE_INFERENCE,
    scope: str = COMPONENT,
    covers: str = "inference",
) -> Carbon:
    """Grams of joules that are already summed up.

    Args:
        joules: of everything, J; None where unknown.
        embodied_g: share of making the hardware, gCO2e; None where unknown.
        grid: the electricity.
        inferences: that the joules are for.
        embodied_source: of the embodied figure.
        joules_outside: the part of `joules` that no data centre draws (links, devices), without PUE.
        unit: R of the SCI.
        scope: of the joules.
        covers: the stages that the joules are of.
    """
    operational_g = None
    if joules is not None:
        facility_j = (joules - joules_outside) * grid.pue + joules_outside
        operational_g = facility_j / JOULES_PER_KWH * grid.intensity_g_per_kwh
    total_g = None if embodied_g is None or operational_g is None else operational_g + embodied_g
    warnings = [] if grid.assumption is None else [grid.assumption]
    if operational_g is None:
        warnings.append("the energy is unknown, and so are the operational grams")
    if embodied_g is None:
        warnings.append("no embodied figure for this hardware: grams are operational only, and there is no total")
    return Carbon(
        grid=grid,
        operational_g=operational_g,
        embodied_g=embodied_g,
        total_g=total_g,
        sci_g_per_inference=None if total_g is None else total_g / inferences,
        unit=unit,
        sci_g=None if total_g is None else total_g / inferences * unit.inferences,
        embodied_source=embodied_source if embodied_g is not None else None,
        inferences=inferences,
        scope=scope,
        covers=covers,
        warnings=tuple(warnings),
    )


def profile_scope(profile: HardwareProfile) -> str:
    """`WALL` where a profile says in its provenance that it was measured there, else `COMPONENT`."""
    return WALL if profile.provenance.get("scope", "").casefold() == WALL else COMPONENT


def embodied_share_g(embodied: Embodied, seconds: float) -> float:
    """The share of making the hardware that some seconds of its life carry, gCO2e."""
    return embodied.kgco2e * GRAMS_PER_KG * seconds / (embodied.lifetime_years * SECONDS_PER_YEAR)


def embodied_given(
    published: Embodied | None, kgco2e: float | None = None, lifetime_years: float | None = None
) -> Embodied | None:
    """The embodied figure of a profile with what the user gave in its place.

    Raises:
        PolicyError: if a number is out of its range, or a lifetime is given where there is no figure to spread over it.
    """
    if kgco2e is not None and not 0 <= kgco2e <= HIGHEST_EMBODIED_KG:
        raise PolicyError(f"--embodied-kg {kgco2e}: expected kgCO2e from 0 to {HIGHEST_EMBODIED_KG:g}")
    if lifetime_years is not None and not (math.isfinite(lifetime_years) and 0 < lifetime_years <= 100):
        raise PolicyError(f"--lifetime-years {lifetime_years}: expected years of use above 0 and at most 100")
    if kgco2e is None and lifetime_years is None:
        return published
    from onnx_aiwq.hardware_profile import EMBODIED_LIFETIME_SOURCE, Embodied

    figure = kgco2e if kgco2e is not None else None if published is None else published.kgco2e
    if figure is None:
        raise PolicyError(
            "--lifetime-years: this hardware has no embodied figure to spread; give it with --embodied-kg"
        )
    parts = ["given with --embodied-kg" if kgco2e is not None or published is None else published.source.split(";")[0]]
    parts.append(EMBODIED_LIFETIME_SOURCE if lifetime_years is None else "lifetime given with --lifetime-years")
    if lifetime_years is None:
        return Embodied(kgco2e=figure, source="; ".join(parts))
    return Embodied(kgco2e=figure, lifetime_years=lifetime_years, source="; ".join(parts))
