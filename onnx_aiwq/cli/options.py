"""Options that commands share, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from onnx_aiwq.errors import PolicyError, ShapeError, suggestion

FORMATS = ("table", "json", "markdown", "csv")
CONVENTIONS = ("default", "paper")
_MAX_POINTS = 1000  # of a sweep
LEVELS = ("inference", "validation", "training")
GRANULARITIES = ("instance", "batch")

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="ONNX file (or its URL); weights may be absent.", show_default=False),
]
Bind = Annotated[
    list[str] | None, typer.Option("--bind", metavar="NAME=INT", help="Value of a symbolic dimension; repeatable.")
]
Shape = Annotated[
    list[str] | None, typer.Option("--shape", metavar="INPUT=1,3,224,224", help="Shape of an input; repeatable.")
]
Hardware = Annotated[
    str | None, typer.Option("--hardware", metavar="NAME|FILE", help="Hardware profile; `aiwq hardware` lists them.")
]
Region = Annotated[
    str | None, typer.Option("--region", metavar="CODE", help="Grid or cloud region; `aiwq regions` lists them.")
]
Intensity = Annotated[
    float | None, typer.Option("--carbon-intensity", metavar="G_PER_KWH", help="gCO2e/kWh instead of a region.")
]
Pue = Annotated[float | None, typer.Option("--pue", metavar="X", help="Power usage effectiveness, at least 1.")]
CarbonProfile = Annotated[
    Path | None,
    typer.Option("--carbon-profile", metavar="FILE.csv", help="gCO2e/kWh by hour of day (columns hour, g_per_kwh)."),
]
Hour = Annotated[
    int | None,
    typer.Option("--hour", metavar="H", help="Hour of --carbon-profile, 0 to 23; the mean of the day without."),
]
EmbodiedKg = Annotated[
    float | None,
    typer.Option("--embodied-kg", metavar="KG", help="kgCO2e of making the hardware, instead of its profile's."),
]
LifetimeYears = Annotated[
    float | None, typer.Option("--lifetime-years", metavar="Y", help="Years of use that embodied CO2 is spread over.")
]
Per = Annotated[
    str, typer.Option("--per", metavar="inference|1000|user|request", help="R of the SCI: what CO2 is divided by.")
]
InferencesPerRequest = Annotated[
    int | None, typer.Option("--inferences-per-request", metavar="N", help="For --per request.")
]
InferencesPerUser = Annotated[int | None, typer.Option("--inferences-per-user", metavar="N", help="For --per user.")]
Utilization = Annotated[
    float,
    typer.Option(
        "--utilization", metavar="U", help="Share of its powered time that the hardware does this work, 0 to 1."
    ),
]
Temperature = Annotated[
    float, typer.Option("--temperature", metavar="K", help="Kelvin of the Landauer bound (AIWQ eq. 2).")
]
NegativeShare = Annotated[
    float, typer.Option("--negative-share", metavar="F", help="Share of negative Relu inputs, for the Landauer bound.")
]
CompRes = Annotated[
    str | None,
    typer.Option(
        "--comp-res",
        metavar="NAME=X,...",
        help="cpu_gips, ram_gt_per_s, gpu_gips, storage_gb_per_s of AIWQ eq. 30, instead of the profile's.",
    ),
]
DataScale = Annotated[
    float, typer.Option("--data-scale-bits", metavar="BITS", help="S_data of AIWQ eq. 31, which the paper leaves open.")
]
Latency = Annotated[
    tuple[float, float] | None,
    typer.Option(
        "--latency", metavar="S WEIGHT", help="Network latency L and its weight gamma_L in 1/s (AIWQ eq. 32)."
    ),
]
Bandwidth = Annotated[
    tuple[float, float] | None,
    typer.Option(
        "--bandwidth", metavar="BPS WEIGHT", help="Bandwidth B in bit/s and its weight gamma_B in s/bit (eq. 32)."
    ),
]
MeasuredSeconds = Annotated[
    float | None,
    typer.Option("--measured-seconds", metavar="S", help="Seconds of a real run, for AW_act (AIWQ eq. 34)."),
]
HumanHours = Annotated[
    float | None, typer.Option("--human-hours", metavar="H", help="Hours of the same task done by people.")
]
ResidualHumanHours = Annotated[
    float | None, typer.Option("--residual-human-hours", metavar="H", help="Hours of people that remain with the AI.")
]
HumanCost = Annotated[
    float | None, typer.Option("--human-cost-per-hour", metavar="X", help="Cost of an hour of human work.")
]
LifeCycleFile = Annotated[
    Path | None,
    typer.Option(
        "--lifecycle", metavar="FILE", help="TOML file of the life cycle; `aiwq lifecycle --example` prints one."
    ),
]
Inferences = Annotated[
    int | None,
    typer.Option(
        "--inferences", metavar="N", help="Inferences that eCAL and CO2 are for; those of --lifecycle, else 1."
    ),
]
ConventionOption = Annotated[
    str, typer.Option("--convention", metavar="|".join(CONVENTIONS), help="`paper` counts no comparisons.")
]
LevelOption = Annotated[
    str, typer.Option("--level", metavar="|".join(LEVELS), help="What is counted; training is one step.")
]
Loss = Annotated[
    str | None, typer.Option("--loss", metavar="mse|cross-entropy|bce", help="Of validation and training.")
]
Optimizer = Annotated[str, typer.Option("--optimizer", metavar="sgd|adam", help="Of training.")]
Bp = Annotated[
    str, typer.Option("--bp", metavar="|".join(GRANULARITIES), help="Back-propagate each instance, or one per batch.")
]
MiniBatch = Annotated[
    int | None, typer.Option("--mini-batch", metavar="N", help="Runs of the model per training step; 1 unless given.")
]
Format = Annotated[str, typer.Option("--format", metavar="|".join(FORMATS), help="Form of the result.")]
Output = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", help="Write the result to a file instead of stdout.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Fail on unbound dimensions and unsupported operators instead of naming them.")
]


def choose(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise `PolicyError` unless the value of an option is one of those allowed."""
    if value not in allowed:
        raise PolicyError(
            f"{option} {value!r}: expected one of {', '.join(allowed)};{suggestion(value, allowed)}".rstrip(";")
        )


def parse_level(value: str) -> Literal["inference", "validation", "training"]:
    """The value of `--level`.

    Raises:
        PolicyError: if it is none of `LEVELS`.
    """
    choose("--level", value, LEVELS)
    return "validation" if value == "validation" else "training" if value == "training" else "inference"


def parse_bindings(given: list[str] | None) -> dict[str, int]:
    """The values of `--bind`, by dimension."""
    bindings: dict[str, int] = {}
    for text in given or []:
        name, separator, value = text.rpartition("=")
        if not separator or not name or not value.strip().isdecimal():
            raise ShapeError(
                f"--bind {text!r}: expected NAME=INT with a non-negative integer, for example --bind batch=8"
            )
        if bindings.get(name, int(value)) != int(value):
            raise ShapeError(f"--bind {name}: bound to {bindings[name]} and to {value}; give it once")
        bindings[name] = int(value)
    return bindings


def parse_shapes(given: list[str] | None) -> dict[str, tuple[int, ...]]:
    """The values of `--shape`, by input."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in given or []:
        name, separator, value = text.rpartition("=")
        dims = [dim.strip() for dim in value.split(",")] if value.strip() else []
        if not separator or not name or not all(dim.isdecimal() for dim in dims):
            raise ShapeError(f"--shape {text!r}: expected INPUT=D1,D2,..., for example --shape input=1,3,224,224")
        if name in shapes:
            raise ShapeError(f"--shape {name}: given twice; give each input once")
        shapes[name] = tuple(int(dim) for dim in dims)
    return shapes


def parse_comp_res(given: str | None) -> dict[str, float] | None:
    """The figures of `--comp-res`, by name."""
    if given is None:
        return None
    figures: dict[str, float] = {}
    for part in given.split(","):
        name, separator, value = part.partition("=")
        try:
            number = float(value) if separator else None
        except ValueError:
            number = None
        if number is None or name.strip() in figures:
            raise PolicyError(
                f"--comp-res {given!r}: expected NAME=NUMBER,... with each name once, as in cpu_gips=40,ram_gt_per_s=5"
            )
        figures[name.strip()] = number
    return figures


def per_unit(per: str, request: int | None, user: int | None) -> int | None:
    """The inferences of one unit of `--per`."""
    choose("--per", per, ("inference", "1000", "user", "request"))
    for name, number in (("request", request), ("user", user)):
        if number is not None and per != name:
            raise PolicyError(f"--inferences-per-{name} {number}: belongs to --per {name}")
    return request if per == "request" else user


def parse_range(option: str, text: str) -> list[int]:
    """Whole numbers from ``FROM:TO`` (tenfold), ``FROM:TO:xFACTOR`` or ``FROM:TO:+STEP``; 1e6 is a whole number."""
    parts = text.split(":")
    step = parts[2] if len(parts) == 3 else "x10"
    numbers = [_whole(number) for number in (*parts[:2], step[1:])]
    start, stop, by = numbers if len(numbers) == 3 else (None, None, None)
    if len(parts) not in (2, 3) or step[:1] not in ("x", "+") or start is None or stop is None or by is None:
        raise PolicyError(f"{option} {text!r}: expected FROM:TO:xFACTOR or FROM:TO:+STEP, for example 100:1e8:x10")
    if start < 1 or stop < start or by < (2 if step[0] == "x" else 1):
        raise PolicyError(
            f"{option} {text!r}: expected 1 <= FROM <= TO, a factor of at least 2 or a step of at least 1"
        )
    values = [start]
    while (following := values[-1] * by if step[0] == "x" else values[-1] + by) <= stop:
        values.append(following)
        if len(values) > _MAX_POINTS:
            raise PolicyError(f"{option} {text!r}: more than {_MAX_POINTS} points; take a larger step")
    return values


def _whole(text: str) -> int | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if abs(number) < 1e19 and number == int(number) else None
