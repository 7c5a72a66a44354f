"""Levers of where and when a model runs: hardware, region, hour, utilisation, life cycle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from onnx_aiwq.advise.levers import ACCURACY, Case, Lever
from onnx_aiwq.hardware_profile import HardwareProfile
from onnx_aiwq.metrics.regions import Region, list_regions
from onnx_aiwq.profiles import list_profiles, load_profile

TRIED_PROFILES = 3
TRIED_UTILIZATIONS = (0.5, 1.0)


def hardware_levers(case: Case, given: Sequence[HardwareProfile]) -> Iterator[Lever]:
    """Other hardware."""
    profiles = list(given) or _cheapest(case)
    if not profiles:
        kind = case.deployment.profile.kind
        reason = f"no other datasheet profile of kind {kind}; name one with --try-hardware"
        yield case.impossible("hardware", f"another profile of kind {kind}", reason)
    chosen = "given with --try-hardware" if given else "the datasheet profiles of the same kind with the least joules"
    for profile in profiles:
        moved = replace(case.deployment, profile=profile, embodied=profile.embodied, comp_res=profile.comp_res)
        yield case.lever(
            "hardware",
            f"{case.deployment.profile.id} to {profile.id}",
            lambda moved=moved: case.price(deployment=moved),  # type: ignore[misc]
            assumes=(
                f"{chosen}; joules by {profile.source}, before by {case.deployment.profile.source}",
                "embodied CO2 is that of the new profile; the utilization, the grid and the PUE stay",
                *case.life_cycle_note,
            ),
            unknown=("whether the model fits its memory and meets its latency", "the making of hardware left unused"),
        )


def _cheapest(case: Case) -> list[HardwareProfile]:
    own = case.deployment.profile
    ids = [each.id for each in list_profiles() if each.origin == "datasheet" and each.kind == own.kind]
    others = [profile for profile in map(load_profile, ids) if profile.coefficients != own.coefficients]
    priced = [
        (replace(case.deployment, profile=each).price(case.report.costs, case.report.graph).joules, each)
        for each in others
    ]
    known = [(joules, each) for joules, each in priced if joules is not None]
    return [each for _, each in sorted(known, key=lambda pair: (pair[0], pair[1].id))[:TRIED_PROFILES]]


def region_levers(case: Case, given: Sequence[Region]) -> Iterator[Lever]:
    """Other grids."""
    grid = case.deployment.grid
    provider = (grid.region or "").partition(":")[0] if ":" in (grid.region or "") else ""
    chosen = "given with --try-region"
    if not given:
        which = f"region of {provider}" if provider else "region of each cloud provider"
        chosen = f"the {which} with the least gCO2e/kWh"
    for region in list(given) or _cleanest(provider):
        change = f"{grid.region or 'the given intensity'} to {region.code}"
        if not given and region.code == grid.region:
            reason = f"{region.code} already has the least gCO2e/kWh of {provider}; try others with --try-region"
            yield case.impossible("region", f"another region of {provider}", reason)
            continue
        place = replace(
            grid,
            region=region.code,
            intensity_g_per_kwh=region.intensity_g_per_kwh,
            year=region.year,
            vintage=region.vintage,
            source=region.source,
            hour=None,
            assumption=None,
        )
        yield case.lever(
            "region",
            change,
            lambda place=place: case.price(deployment=replace(case.deployment, grid=place)),  # type: ignore[misc]
            assumes=(
                f"{chosen}: {region.intensity_g_per_kwh:g}, before {grid.intensity_g_per_kwh:g}; {region.year} average",
                "the energy and the PUE stay; grids are yearly averages of generation, not marginal",
            ),
            unknown=("latency, law and the network to the new place",),
        )


def _cleanest(provider: str) -> list[Region]:
    """The region with the least intensity of one provider, or of each."""
    best: dict[str, Region] = {}
    for region in list_regions():
        owner, separator, _ = region.code.partition(":")
        if separator and provider in ("", owner):
            known = best.get(owner)
            if known is None or region.intensity_g_per_kwh < known.intensity_g_per_kwh:
                best[owner] = region
    return list(best.values())


def setting_levers(case: Case) -> Iterator[Lever]:
    """Hour of day, utilisation and retraining."""
    yield _hour(case)
    for value in TRIED_UTILIZATIONS:
        if value != case.deployment.utilization:
            yield case.lever(
                "utilization",
                f"utilization {case.deployment.utilization:g} to {value:g}",
                lambda value=value: case.price(  # type: ignore[misc]
                    deployment=replace(case.deployment, utilization=value)
                ),
                assumes=("static power and making are spread over the share of powered time that does this work",),
                unknown=("whether there is enough other work, or load, to reach it",),
            )
    yield _training(case)


def _hour(case: Case) -> Lever:
    grid, hourly = case.deployment.grid, case.hourly
    if hourly is None:
        reason = "no intensity by hour is known: give it with --carbon-profile FILE.csv"
        return case.impossible("hour", "the cleanest hour of the day", reason)
    hour = hourly.cleanest_hour
    moved = replace(grid, hour=hour, intensity_g_per_kwh=hourly.at(hour), source=f"{hourly.source} (at hour {hour})")
    was = "the mean of the day" if grid.hour is None else f"hour {grid.hour}"
    return case.lever(
        "hour",
        f"{was} to hour {hour}",
        lambda: case.price(deployment=replace(case.deployment, grid=moved)),
        assumes=(f"all of it runs in hour {hour}: {hourly.at(hour):g} gCO2e/kWh, before {grid.intensity_g_per_kwh:g}",),
        unknown=("whether the work can wait; the intensity of other days",),
    )


def _training(case: Case) -> Lever:
    life = case.deployment.lifecycle
    if life is None or life.training is None:
        what = "no life cycle is given: --lifecycle FILE" if life is None else "the life cycle has no [training]"
        return case.impossible("training", "half of the epochs", what)
    epochs = life.training.epochs
    if epochs < 2:
        return case.impossible("training", "half of the epochs", "the life cycle trains one epoch")
    fewer = life.model_copy(update={"training": life.training.model_copy(update={"epochs": epochs // 2})})
    return case.lever(
        "training",
        f"{epochs} to {epochs // 2} epochs",
        lambda: case.price(deployment=replace(case.deployment, lifecycle=fewer)),
        assumes=("training is proportional to its epochs; half as many retrainings of the same length save the same",),
        unknown=(ACCURACY,),
    )
