"""Hardware profiles: what a transistor operation, a moved byte and a second cost on one processor.

A profile is measured (calibrated on a machine), modelled, replayed, or derived from a datasheet. The label travels with
every number. The energy model that reads it is in `onnx_aiwq.energy`; the derivation from a datasheet is
`derive_from_datasheet`, with its assumptions as named constants and its evidence in the interval of every such profile.
"""

from __future__ import annotations

import csv
import functools
import json
import platform
import re
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from onnx_aiwq.errors import ProfileError, suggestion
from onnx_aiwq.kernels.model import TimeModel
from onnx_aiwq.transistors import transistors_per_mac
from onnx_aiwq.units import BITS_PER_BYTE
from onnx_aiwq.vocabulary import DType

PROFILE_SCHEMA = "onnx_aiwq.profile/1"
DEFAULT_ID = "amd-epyc-zen-4-vcpu-1-thread"
"""The shipped calibration that prices models where nothing was calibrated."""
REFERENCE_ID = "reference-cpu"
REFERENCE_PROCESSOR = "Intel Xeon Gold 6148"
MAX_PROFILE_BYTES = 4_000_000

SUSTAINED_COMPUTE_SHARE = 0.25
"""Share of the peak rate that a network sustains, and `SUSTAINED_BANDWIDTH_SHARE` of the peak memory bandwidth: round
figures, chosen so that the median measured / predicted time of the evidence in `DATASHEET_INTERVAL` is near 1. a-eCAL
reports utilisations of 0.05 to 0.7."""
SUSTAINED_BANDWIDTH_SHARE = 0.5
IDLE_SHARES_OF_TDP = (3 / 22, 50 / 400, 100 / 700, 20 / 100, 2 / 15)
"""Idle watts / TDP of the hardware profiles of the eCAL package (ecal-energy 0.1.0): M2, A100, H100, CPU, edge."""
STATIC_SHARE_OF_TDP = statistics.median(IDLE_SHARES_OF_TDP)
MEMORY_SHARE_OF_DYNAMIC_POWER = 0.25
"""Share of the dynamic power that memory draws at its sustained rate: an assumption. It puts a moved bit at 7 to 89 pJ
over the shipped datasheets, controllers and on-chip network included; DRAM alone is given as 4 to 7 pJ (HBM2) and 20 pJ
(DDR) by Jouppi et al., ISCA 2021."""
EMBODIED_LIFETIME_YEARS = 4.0
EMBODIED_LIFETIME_SOURCE = "lifetime: 4 years, the server lifetime of the Cloud Carbon Footprint methodology"

DENSE_FAMILIES = ("dense", "recurrent")
"""Families whose arithmetic is matrix products, which matrix units serve."""
ANY = "*"

Kind = Literal["cpu", "gpu", "tpu", "edge", "accelerator", "other"]
Source = Literal["measured", "modelled", "replayed", "datasheet"]
Origin = Literal["reference", "datasheet", "shipped", "user"]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Coefficient(_Frozen):
    """What one transistor operation costs in operators of one family and data type; ``*`` stands for any.

    Attributes:
        family: class of operators ("dense", "elementwise", ...), or ``*``.
        dtype: label of a data type ("float32"), or ``*``.
        seconds_per_to: seconds per transistor operation.
        joules_per_to: joules per transistor operation, static power not included.
    """

    family: str
    dtype: str
    seconds_per_to: NonNegative
    joules_per_to: NonNegative

    @field_validator("dtype")
    @classmethod
    def _known_dtype(cls, label: str) -> str:
        known = {dtype.label for dtype in DType} | {ANY}
        if label not in known:
            raise ValueError(f"{label!r} is no data type;{suggestion(label, known)} or '*'")
        return label


class Factors(_Frozen):
    """An interval as factors of the point estimate.

    Attributes:
        low_factor: at most 1.
        high_factor: at least 1.
        basis: the evidence, with the number of observations.
    """

    low_factor: Annotated[float, Field(ge=0, le=1)]
    high_factor: Annotated[float, Field(ge=1)]
    basis: str


class Interval(_Frozen):
    """How far seconds and joules may be from the point estimate, at one level (0.90: nine cases in ten)."""

    level: Annotated[float, Field(gt=0, lt=1)] = 0.90
    seconds: Factors
    joules: Factors


class Covariance(_Frozen):
    """Covariance of fitted coefficients: their names, and the square matrix in that order."""

    names: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _square(self) -> Covariance:
        size = len(self.names)
        if len(self.matrix) != size or any(len(row) != size for row in self.matrix):
            raise ValueError(f"expected a {size} x {size} matrix, one row and column per name")
        return self


class CompResFigures(_Frozen):
    """The figures of AIWQ eq. 30 and 38; None where no source gives one.

    Attributes:
        cpu_gips: 1e9 instructions per second.
        ram_gt_per_s: 1e9 transfers per second, all channels.
        gpu_gips: 1e9 instructions per second.
        storage_gb_per_s: 1e9 bytes per second.
    """

    cpu_gips: NonNegative | None = None
    ram_gt_per_s: NonNegative | None = None
    gpu_gips: NonNegative | None = None
    storage_gb_per_s: NonNegative | None = None


class Embodied(_Frozen):
    """Greenhouse gas of making the processor, kgCO2e, and the years of use that it is spread over."""

    kgco2e: NonNegative
    lifetime_years: Positive = EMBODIED_LIFETIME_YEARS
    source: str


class HardwareProfile(_Frozen):
    """What computation costs on one processor under one runtime; the file format ``onnx_aiwq.profile/1``.

    Attributes:
        id: slug, for example ``nvidia-h100-sxm5-80gb``.
        name: full name.
        kind: cpu, gpu, tpu, edge, accelerator or other.
        provider: onnxruntime execution provider that was calibrated; None for a profile without a run.
        source: how joules were obtained: measured, modelled, replayed or datasheet.
        threads: worker threads (cores, for a datasheet); None where it has no meaning.
        coefficients: seconds and joules per transistor operation by family and data type.
        seconds_per_byte: seconds per byte read or written.
        joules_per_bit: joules per bit read or written (eta_data x gamma of AIWQ eq. 13).
        static_watts: power that flows whether or not anything is computed.
        seconds_per_node: overhead of one call of an operator; None where it is unknown, and then not charged.
        seconds_per_run: overhead of one inference; None where it is unknown, and then not charged.
        dynamic_watts: power above the static while kernels run; given with `kernels`.
        watts_interval: how far the watts may be off; None where joules were metered.
        kernels: seconds of the runtime's kernels, where the profile was calibrated; they take the place of the
            coefficients for everything that runs as a forward pass.
        interval: how far the point estimates of the coefficients may be off, and why; with `kernels` each model has an
            interval of its own.
        covariance: of the fitted coefficients, where there was a fit.
        comp_res: figures for the workload score.
        embodied: greenhouse gas of making it, where published.
        provenance: free text by key: machine, date, runtime, governor, ...
        sources: where the figures come from.
        validation: held-out errors, where the profile was validated.
    """

    schema_id: Literal["onnx_aiwq.profile/1"] = Field(alias="schema")
    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100)]
    name: Annotated[str, Field(min_length=1)]
    kind: Kind
    provider: str | None = None
    source: Source
    threads: Annotated[int, Field(ge=1)] | None = None
    coefficients: Annotated[tuple[Coefficient, ...], Field(min_length=1)]
    seconds_per_byte: NonNegative
    joules_per_bit: NonNegative
    static_watts: NonNegative
    seconds_per_node: NonNegative | None = None
    seconds_per_run: NonNegative | None = None
    dynamic_watts: NonNegative | None = None
    watts_interval: Factors | None = None
    kernels: TimeModel | None = None
    interval: Interval
    covariance: Covariance | None = None
    comp_res: CompResFigures = CompResFigures()
    embodied: Embodied | None = None
    provenance: dict[str, str] = Field(default_factory=dict)
    sources: tuple[str, ...] = ()
    validation: dict[str, float | int | str | None] | None = None

    @model_validator(mode="after")
    def _watts_of_kernels(self) -> HardwareProfile:
        if self.kernels is not None and self.dynamic_watts is None:
            raise ValueError("kernels say seconds; dynamic_watts are needed to make joules of them")
        return self

    @model_validator(mode="after")
    def _one_coefficient_per_class(self) -> HardwareProfile:
        seen = set()
        for entry in self.coefficients:
            if (entry.family, entry.dtype) in seen:
                raise ValueError(f"two coefficients for family {entry.family!r}, data type {entry.dtype!r}")
            seen.add((entry.family, entry.dtype))
        return self

    def coefficient(self, family: str, dtype: DType) -> Coefficient:
        """The most specific coefficient: family and type, then family, then type, then the one for anything.

        Raises:
            ProfileError: if none matches.
        """
        by_class = {(entry.family, entry.dtype): entry for entry in self.coefficients}
        for key in ((family, dtype.label), (family, ANY), (ANY, dtype.label), (ANY, ANY)):
            if key in by_class:
                return by_class[key]
        raise ProfileError(
            f"profile {self.id!r} has no coefficient for family {family!r} and data type {dtype.label!r}; "
            "add an entry with family '*' and dtype '*'"
        )

    def to_json(self) -> str:
        """The profile as the JSON text that `read_profile` reads."""
        whole = self.model_dump(mode="json", by_alias=True)
        kernels = whole["kernels"]
        if kernels is None:
            return json.dumps(whole, indent=2) + "\n"
        # A line for each kernel: thousands of numbers one below the other would be three times the file.
        listed, whole["kernels"] = kernels.pop("kernels"), "@"
        rest = json.dumps({**kernels, "kernels": "@"})
        lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in listed)
        return json.dumps(whole, indent=2).replace('"@"', rest, 1).replace('"@"', f"[\n{lines}\n]", 1) + "\n"


@dataclass(frozen=True, slots=True)
class ProfileSummary:
    """One line of the list of profiles: what it is, how its joules were obtained, and where it lies."""

    id: str
    name: str
    kind: str
    source: str
    provider: str | None
    origin: Origin


def list_profiles() -> list[ProfileSummary]:
    """Every profile that `load_profile` finds by name: the reference, the user's, the shipped, the datasheets'.

    Raises:
        ProfileError: if a calibrated profile file cannot be read or does not validate.
    """
    found: dict[str, ProfileSummary] = {}
    for origin, profile in _all_profiles():
        summary = ProfileSummary(profile.id, profile.name, profile.kind, profile.source, profile.provider, origin)
        found.setdefault(profile.id, summary)
    return sorted(found.values(), key=lambda summary: (summary.id != REFERENCE_ID, summary.id))


def load_profile(name_or_path: str | None = None) -> HardwareProfile:
    """The profile of that id, full name or JSON file; None: this machine's calibrated one, else the default.

    Ids and names are compared without case.

    Raises:
        ProfileError: if there is no such profile, or its file does not validate.
    """
    if name_or_path is None:
        return calibrated_profile_of_this_machine() or default_profile()
    if name_or_path.casefold().endswith(".json") or "/" in name_or_path or "\\" in name_or_path:
        return read_profile(Path(name_or_path))
    wanted = name_or_path.strip().casefold()
    known = []
    for _, profile in _all_profiles():
        if wanted in (profile.id, profile.name.casefold()):
            return profile
        known.append(profile.id)
    gap = _missing_figures(wanted)
    if gap:
        raise ProfileError(
            f"hardware {name_or_path!r} is known, but its datasheet entry lacks {gap}; choose another "
            "one (`aiwq hardware` lists them), or give a profile of your own as a JSON file"
        )
    raise ProfileError(
        f"no hardware profile {name_or_path!r};{suggestion(name_or_path, known)} `aiwq hardware` lists all, "
        "a JSON file is given by its path"
    )


def default_profile() -> HardwareProfile:
    """What prices a model where nothing was calibrated: a processor that was, elsewhere, and is labelled as such.

    Seconds that were measured on another machine tell more of one's own than a datasheet does; where the package
    comes without its calibrations, the reference is left.
    """
    for folder in _shipped_folders():
        path = folder / DEFAULT_ID / "profile.json"
        if path.is_file():
            profile = read_profile(path)
            return profile.model_copy(update={"name": f"{profile.name} (the default, not this machine)"})
    return reference_profile()


def reference_profile() -> HardwareProfile:
    """One well documented processor's datasheet, and labelled as such."""
    profile = _datasheet_profiles()[REFERENCE_PROCESSOR]
    return profile.model_copy(
        update={"id": REFERENCE_ID, "name": f"{REFERENCE_PROCESSOR} (datasheet reference, not this machine)"}
    )


def read_profile(path: Path) -> HardwareProfile:
    """Read and validate a profile from a JSON file of the schema ``onnx_aiwq.profile/1``.

    Raises:
        ProfileError: if the file is absent, too large, or does not validate; one line, with every wrong field.
    """
    try:
        size = path.stat().st_size
        if size > MAX_PROFILE_BYTES:
            raise ProfileError(f"{path}: {size} bytes are no hardware profile (limit {MAX_PROFILE_BYTES})")
        return HardwareProfile.model_validate_json(path.read_bytes())
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ProfileError(f"{path}: cannot read the hardware profile: {reason}; `aiwq hardware` lists names") from None
    except ValidationError as error:
        raise ProfileError(f"{path}: not a valid hardware profile: {_one_line(error)}") from None


def _one_line(error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(part) for part in problem["loc"])
        message = " ".join(problem["msg"].removeprefix("Value error, ").split())
        problems.append(f"field {place!r}: {message}" if place else message)
    return "; ".join(problems)


def user_profile_folder() -> Path:
    """Where calibration writes this user's profiles: ``profiles`` in the platform's data folder of onnx_aiwq."""
    import platformdirs

    return Path(platformdirs.user_data_dir("onnx_aiwq")) / "profiles"


def this_machine() -> str:
    """What a calibrated profile keeps as ``provenance["machine"]``: system, architecture and processor model."""
    return f"{platform.system()} {platform.machine()} {_processor_model()}"


def _processor_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return match.group(1).strip() if match else platform.processor()


def calibrated_profile_of_this_machine() -> HardwareProfile | None:
    """The newest profile (of one thread, if there is one) of the user's that was calibrated on this machine, or None.

    Raises:
        ProfileError: if a profile in that folder does not validate: falling back would hide it.
    """
    machine = this_machine()
    own = [profile for profile in map(read_profile, _user_files()) if profile.provenance.get("machine") == machine]
    # One thread is the setting of the TO paper; of several such profiles the newest counts.
    return max(own, key=lambda each: (each.threads == 1, each.provenance.get("date", ""), each.id), default=None)


def _shipped_folders() -> list[Path]:
    """Folders of shipped calibrations: inside the wheel, or beside the package in a source checkout; may be empty."""
    package = Path(__file__).parent
    checkout = package.parent
    beside = [checkout / "calibration"] if (checkout / "pyproject.toml").is_file() else []
    return [package / "calibration_data", *beside]


def _user_files() -> list[Path]:
    """Profiles that calibration wrote (a folder each), and files that were put beside them."""
    folder = user_profile_folder()
    return [*_json_files(folder, "*/profile.json"), *_json_files(folder, "*.json")]


def _json_files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern)) if folder.is_dir() else []


def _all_profiles() -> Iterator[tuple[Origin, HardwareProfile]]:
    """Every profile, in the order in which an id or a name is looked up."""
    yield "reference", reference_profile()
    for path in _user_files():
        yield "user", read_profile(path)
    for folder in _shipped_folders():
        for path in _json_files(folder, "*/profile.json"):
            yield "shipped", read_profile(path)
    for profile in _datasheet_profiles().values():
        yield "datasheet", profile


# --- derivation from a datasheet ---------------------------------------------------------------------------------


_NO_FIGURES = CompResFigures()


@dataclass(frozen=True, slots=True)
class Datasheet:
    """Published figures of one processor, as in ``data/hardware.csv`` and ``data/hardware_additions.csv``.

    Attributes:
        name: full name.
        kind: cpu, gpu, tpu, edge or accelerator.
        tdp_w: thermal design power, W (the package of a CPU, the board of a GPU, the module of an edge device).
        fp32_tflops: peak 1e12 FLOP/s in float32, two per multiply-accumulate.
        bandwidth_gb_s: peak memory bandwidth, 1e9 bytes/s.
        fp16_tensor_tflops: peak dense rate of matrix units in 16-bit floats, where given.
        int8_tops: peak dense 1e12 operations/s in int8, where given.
        cores: physical cores, where given.
        comp_res: figures for the workload score.
        embodied: greenhouse gas of making it, where published.
        sources: where the figures come from.
    """

    name: str
    kind: Kind
    tdp_w: float
    fp32_tflops: float
    bandwidth_gb_s: float
    fp16_tensor_tflops: float | None = None
    int8_tops: float | None = None
    cores: int | None = None
    comp_res: CompResFigures = _NO_FIGURES
    embodied: Embodied | None = None
    sources: tuple[str, ...] = ()


def derive_from_datasheet(sheet: Datasheet) -> HardwareProfile:
    """Derive a profile from published figures, without a run.

    1. Rate: a network sustains `SUSTAINED_COMPUTE_SHARE` of the peak, so MAC/s = peak FLOP/s / 2 x that share, and
       ``seconds_per_to = 1 / (MAC/s x TO per MAC)`` with the TO of the type (`onnx_aiwq.transistors`). Matrix products
       in float16 and bfloat16 run at the matrix units' rate, and those in int8 (with int32 accumulators) at the int8
       rate, where these are given; other operators, and these types without a rate of their own, run at the float32
       rate. Every other type ("*") takes the seconds per TO of float32.
    2. Memory: ``seconds_per_byte = 1 / (bandwidth x SUSTAINED_BANDWIDTH_SHARE)``.
    3. Power: static watts are `STATIC_SHARE_OF_TDP`. The rest is dynamic; memory draws
       `MEMORY_SHARE_OF_DYNAMIC_POWER` of it at its sustained rate and arithmetic draws the other part at its own, so
       that both at once draw exactly the TDP: ``joules_per_to = watts x seconds_per_to``, likewise per bit.
    4. Overheads per node and per run are unknown and not charged: small networks cost more than this says.
    """
    static_watts = sheet.tdp_w * STATIC_SHARE_OF_TDP
    memory_watts = (sheet.tdp_w - static_watts) * MEMORY_SHARE_OF_DYNAMIC_POWER
    compute_watts = sheet.tdp_w - static_watts - memory_watts
    seconds_per_byte = 1 / (sheet.bandwidth_gb_s * 1e9 * SUSTAINED_BANDWIDTH_SHARE)
    coefficients = tuple(
        Coefficient(
            family=family, dtype=dtype, seconds_per_to=seconds_per_to, joules_per_to=compute_watts * seconds_per_to
        )
        for (family, dtype), seconds_per_to in _datasheet_rates(sheet).items()
    )
    return HardwareProfile(
        schema="onnx_aiwq.profile/1",
        id=slug(sheet.name),
        name=sheet.name,
        kind=sheet.kind,
        source="datasheet",
        threads=sheet.cores,
        coefficients=coefficients,
        seconds_per_byte=seconds_per_byte,
        joules_per_bit=memory_watts * seconds_per_byte / BITS_PER_BYTE,
        static_watts=static_watts,
        interval=DATASHEET_INTERVAL,
        comp_res=sheet.comp_res,
        embodied=sheet.embodied,
        provenance={"derivation": _DERIVATION},
        sources=sheet.sources,
    )


_DERIVATION = (
    f"datasheet: {SUSTAINED_COMPUTE_SHARE:.3g} of the peak rate and {SUSTAINED_BANDWIDTH_SHARE:.3g} of the peak "
    f"bandwidth sustained; {STATIC_SHARE_OF_TDP:.3g} of the TDP static; memory draws "
    f"{MEMORY_SHARE_OF_DYNAMIC_POWER:.3g} of the rest; no overhead per node or run"
)


def _datasheet_rates(sheet: Datasheet) -> dict[tuple[str, str], float]:
    """Seconds per transistor operation by (family, data type); see `derive_from_datasheet`, step 1."""

    def seconds_per_to(tera_per_s: float, transistors: int) -> float:
        return 1 / (tera_per_s * 1e12 / 2 * SUSTAINED_COMPUTE_SHARE * transistors)

    float32 = seconds_per_to(sheet.fp32_tflops, transistors_per_mac(DType.FLOAT))
    rates = {(ANY, ANY): float32, (ANY, DType.FLOAT.label): float32}
    for dtype in (DType.FLOAT16, DType.BFLOAT16):
        transistors = transistors_per_mac(dtype)
        rates[ANY, dtype.label] = seconds_per_to(sheet.fp32_tflops, transistors)
        if sheet.fp16_tensor_tflops is not None:
            tensor = seconds_per_to(sheet.fp16_tensor_tflops, transistors)
            rates |= {(family, dtype.label): tensor for family in DENSE_FAMILIES}
    quantised = transistors_per_mac(DType.INT8, DType.INT32)
    for dtype in (DType.INT8, DType.UINT8):
        rates[ANY, dtype.label] = seconds_per_to(sheet.fp32_tflops, quantised)
    if sheet.int8_tops is not None:
        # The accumulation runs inside the same instruction: with both types at one rate per TO, a MAC takes 1 / rate.
        for dtype in (DType.INT8, DType.UINT8, DType.INT32):
            tensor = seconds_per_to(sheet.int8_tops, quantised)
            rates |= {(family, dtype.label): tensor for family in DENSE_FAMILIES}
    return rates


_EVIDENCE = (
    "checked against 184 published measurements, on published MACs, parameters and activations, without a run: 161 of "
    "CNNs in float32, batch 4 to 32 (arXiv 2509.22092: whole PC at the wall, Core i9-13900K and GeForce RTX 4090, "
    "n=100; STREP, ECML PKDD 2022: Xeon W-2155 package and Quadro RTX 5000 board + CPU package, n=61) and 23 of "
    "language models and FLUX.1-dev in bfloat16 (ML.ENERGY v3: H100 board). Measured / predicted {quantity}: median "
    "{median}, 5th to 95th percentile {spread}, all {extremes}; {inside} lie inside. The worst is MobileNetV3Small: "
    "overheads are not modelled, so tiny networks and batch 1 can exceed it. {bias}"
)

DATASHEET_INTERVAL = Interval(
    level=0.90,
    seconds=Factors(
        low_factor=0.2,
        high_factor=10.0,
        basis=_EVIDENCE.format(
            quantity="time",
            median="1.05 (CNNs 1.18, H100 0.83)",
            spread="0.27 to 4.70",
            extremes="0.16 to 16.2",
            inside="97 %",
            bias="The sustained shares were chosen in view of the CNN rows.",
        ),
    ),
    joules=Factors(
        low_factor=0.25,
        high_factor=10.0,
        basis=_EVIDENCE.format(
            quantity="energy",
            median="1.60 (wall 1.83, CPU package or GPU board + CPU package 1.81, H100 board 1.45)",
            spread="0.67 to 5.29",
            extremes="0.23 to 15.0",
            inside="97 %",
            bias="The datasheet covers the processor alone; the wall adds the other parts and the power supply.",
        ),
    ),
)
"""The interval of every datasheet profile, wider than the central nine tenths of its evidence, and that evidence."""


def slug(name: str) -> str:
    """The id of a full name: lower case, with hyphens for everything but letters and digits."""
    return re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")


def _table(name: str) -> list[dict[str, str]]:
    text = (resources.files("onnx_aiwq") / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _number(row: Mapping[str, str], column: str) -> float | None:
    text = row.get(column) or ""
    return float(text) if text.strip() else None


@functools.cache
def _hardware_rows() -> dict[str, dict[str, str]]:
    """``hardware.csv`` by name, its blanks filled from ``hardware_additions.csv``; nothing is overwritten."""
    rows = {row["name"]: row for row in _table("hardware.csv")}
    for extra in _table("hardware_additions.csv"):
        row = rows[extra["name"]]
        for column, value in extra.items():
            if not row.get(column):
                row[column] = value
    return rows


_NEEDED = ("tdp_w", "fp32_tflops", "mem_bw_gb_s")


def _missing_figures(wanted: str) -> str:
    for name, row in _hardware_rows().items():
        if wanted in (name.casefold(), slug(name)):
            return ", ".join(column for column in _NEEDED if _number(row, column) is None)
    return ""


def peak_figures(name: str) -> tuple[str, float, float] | None:
    """Full name, peak float32 FLOP/s and TDP in watts of a processor of the hardware list; None where one is absent."""
    wanted = name.strip().casefold()
    for known, row in _hardware_rows().items():
        tdp_w, fp32_tflops = _number(row, "tdp_w"), _number(row, "fp32_tflops")
        if wanted in (known.casefold(), slug(known)) and tdp_w is not None and fp32_tflops is not None:
            return known, fp32_tflops * 1e12, tdp_w
    return None


def processor_names() -> list[str]:
    """Full names of the processors of the hardware list."""
    return list(_hardware_rows())


@functools.cache
def _datasheet_profiles() -> dict[str, HardwareProfile]:
    """Derived profiles by full name, for the processors with a TDP, a float32 rate and a bandwidth."""
    return {
        name: derive_from_datasheet(sheet)
        for name, row in _hardware_rows().items()
        if (sheet := _datasheet(row)) is not None
    }


def _datasheet(row: Mapping[str, str]) -> Datasheet | None:
    tdp_w, fp32_tflops, bandwidth_gb_s = (_number(row, column) for column in _NEEDED)
    if tdp_w is None or fp32_tflops is None or bandwidth_gb_s is None:
        return None
    cores, embodied_kg = _number(row, "cores"), _number(row, "embodied_kgco2e")
    embodied_source = f"{row['embodied_source']}; {EMBODIED_LIFETIME_SOURCE}"
    return Datasheet(
        name=row["name"],
        kind=cast(Kind, row["kind"]),
        tdp_w=tdp_w,
        fp32_tflops=fp32_tflops,
        bandwidth_gb_s=bandwidth_gb_s,
        fp16_tensor_tflops=_number(row, "fp16_tensor_tflops"),
        int8_tops=_number(row, "int8_tops"),
        cores=None if cores is None else int(cores),
        comp_res=CompResFigures(cpu_gips=_cpu_gips(row), ram_gt_per_s=_number(row, "ram_gt_per_s")),
        embodied=None if embodied_kg is None else Embodied(kgco2e=embodied_kg, source=embodied_source),
        sources=tuple(
            row[column]
            for column in ("source", "note", "tdp_source", "fp32_source", "mem_source", "instructions_source")
            if row.get(column)
        ),
    )


def _cpu_gips(row: Mapping[str, str]) -> float | None:
    """1e9 instructions per second at the base clock: cores x GHz x instructions per clock; None without all three."""
    cores, base_ghz, per_clock = (_number(row, name) for name in ("cores", "base_ghz", "instructions_per_clock"))
    if cores is None or base_ghz is None or per_clock is None:
        return None
    return cores * base_ghz * per_clock
