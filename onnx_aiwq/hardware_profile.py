"""A hardware profile: the file format ``onnx_aiwq.profile/1``, what its numbers are, and what they may be."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec

from onnx_aiwq.errors import ProfileError, suggestion
from onnx_aiwq.kernels.model import Frozen, NonNegative, Positive, TimeModel
from onnx_aiwq.vocabulary import DType

EMBODIED_LIFETIME_YEARS = 4.0
EMBODIED_LIFETIME_SOURCE = "lifetime: 4 years, the server lifetime of the Cloud Carbon Footprint methodology"

ANY = "*"
_DTYPES = frozenset({dtype.label for dtype in DType} | {ANY})

Kind = Literal["cpu", "gpu", "tpu", "edge", "accelerator", "other"]
Source = Literal["measured", "modelled", "replayed", "datasheet"]


class Coefficient(Frozen, frozen=True, kw_only=True):
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

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise ValueError(f"dtype {self.dtype!r} is no data type;{suggestion(self.dtype, _DTYPES)} or '*'")


class Factors(Frozen, frozen=True, kw_only=True):
    """An interval as factors of the point estimate.

    Attributes:
        low_factor: at most 1.
        high_factor: at least 1.
        basis: the evidence, with the number of observations.
    """

    low_factor: Annotated[float, msgspec.Meta(ge=0, le=1)]
    high_factor: Annotated[float, msgspec.Meta(ge=1)]
    basis: str


class Interval(Frozen, frozen=True, kw_only=True):
    """How far seconds and joules may be from the point estimate, at one level (0.90: nine cases in ten)."""

    level: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.90
    seconds: Factors
    joules: Factors


class Covariance(Frozen, frozen=True, kw_only=True):
    """Covariance of fitted coefficients: their names, and the square matrix in that order."""

    names: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        size = len(self.names)
        if len(self.matrix) != size or any(len(row) != size for row in self.matrix):
            raise ValueError(f"expected a {size} x {size} matrix, one row and column per name")


class CompResFigures(Frozen, frozen=True, kw_only=True):
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


class Embodied(Frozen, frozen=True, kw_only=True):
    """Greenhouse gas of making the processor, kgCO2e, and the years of use that it is spread over."""

    kgco2e: NonNegative
    lifetime_years: Positive = EMBODIED_LIFETIME_YEARS
    source: str


class HardwareProfile(Frozen, frozen=True, kw_only=True):
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

    schema: Literal["onnx_aiwq.profile/1"]
    id: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*\Z", max_length=100)]
    name: Annotated[str, msgspec.Meta(min_length=1)]
    kind: Kind
    provider: str | None = None
    source: Source
    threads: Annotated[int, msgspec.Meta(ge=1)] | None = None
    coefficients: Annotated[tuple[Coefficient, ...], msgspec.Meta(min_length=1)]
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
    provenance: dict[str, str] = msgspec.field(default_factory=dict)
    sources: tuple[str, ...] = ()
    validation: dict[str, float | int | str | None] | None = None

    def __post_init__(self) -> None:
        if self.kernels is not None and self.dynamic_watts is None:
            raise ValueError("kernels say seconds; dynamic_watts are needed to make joules of them")
        seen = set()
        for entry in self.coefficients:
            if (entry.family, entry.dtype) in seen:
                raise ValueError(f"two coefficients for family {entry.family!r}, data type {entry.dtype!r}")
            seen.add((entry.family, entry.dtype))

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

    def to_dict(self) -> dict[str, Any]:
        """The profile as JSON has it."""
        whole: dict[str, Any] = msgspec.to_builtins(self)
        return whole

    @staticmethod
    def from_dict(whole: Mapping[str, Any]) -> HardwareProfile:
        """The profile that `to_dict` wrote.

        Raises:
            ProfileError: if it is none; names the first field that does not fit.
        """
        with _told_as_profile_errors():
            return msgspec.convert(whole, HardwareProfile)

    @staticmethod
    def from_json(text: bytes | str) -> HardwareProfile:
        """The profile that `to_json` wrote.

        Raises:
            ProfileError: if it is none; names the first field that does not fit.
        """
        with _told_as_profile_errors():
            return _DECODER.decode(text)

    def to_json(self) -> str:
        """The profile as the JSON text that `read_profile` reads.

        Raises:
            ProfileError: if a number is none that a profile may hold.
        """
        text = self._text()
        HardwareProfile.from_json(text)
        return text

    def _text(self) -> str:
        whole = self.to_dict()
        kernels = whole["kernels"]
        if kernels is None:
            return json.dumps(whole, indent=2) + "\n"
        # A line for each kernel: thousands of numbers one below the other would be three times the file.
        listed, whole["kernels"] = kernels.pop("kernels"), "@"
        rest = json.dumps({**kernels, "kernels": "@"})
        lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in listed)
        return json.dumps(whole, indent=2).replace('"@"', rest, 1).replace('"@"', f"[\n{lines}\n]", 1) + "\n"


_DECODER = msgspec.json.Decoder(HardwareProfile)


@contextlib.contextmanager
def _told_as_profile_errors() -> Iterator[None]:
    try:
        yield
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        fields = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", place.rstrip("`")).strip(".")
        told = message[:1].lower() + message[1:]
        raise ProfileError(f"field {fields!r}: {told}" if fields else told) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProfileError(" ".join(str(error).split()) or type(error).__name__) from None


def slug(name: str) -> str:
    """The id of a full name: lower case, with hyphens for everything but letters and digits."""
    return re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")
