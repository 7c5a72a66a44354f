"""The life cycle file: what each table and key may hold. A section that is left out is a stage that is not covered."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from onnx_aiwq.lifecycle.links import RAID_MINIMUM_DISKS, HopPayload, LayerTerms
from onnx_aiwq.metrics.ecal import MAX_INFERENCES


def _whole(value: object) -> object:
    # TOML writes 1e6 as a float; a whole number is a whole number.
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=10**18)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(min_length=1, max_length=4096)]
Layer = Literal["application", "presentation", "session", "transport", "network", "datalink", "physical"]
Raid = Literal["none", "raid0", "raid1", "raid5", "raid6", "raid10"]


class Section(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


class Data(Section):
    """``[data]``: what is collected for development, and what an inference gets of it.

    Attributes:
        samples: N_S, collected for development.
        values_per_sample: IS; the elements of the inputs of an ONNX model unless given.
        bits_per_value: f; that of these inputs unless given.
    """

    samples: Whole
    values_per_sample: Whole | None = None
    bits_per_value: Whole | None = None


class OwnProtocol(Section):
    """``[[protocols]]``: a protocol of the user's own, named in a stack like the known ones.

    Attributes: as `onnx_aiwq.lifecycle.links.Protocol`.
    """

    name: Text
    layer: Layer
    data_overhead: NotNegative
    control_overhead: NotNegative
    send_j_per_bit: NotNegative
    receive_j_per_bit: NotNegative
    device_cycles_per_bit: NotNegative = 0.0
    device_j_per_cycle: NotNegative = 0.0
    gateway_cycles_per_bit: NotNegative = 0.0
    gateway_j_per_cycle: NotNegative = 0.0
    source: Text = "given in the life cycle file"


class Hop(Section):
    """``[[hops]]``: a link that samples travel.

    Attributes:
        stack: `generic`, or names of protocols, one per layer at most.
        failure_rate: p_f, share of transmissions that fail, from 0 to below 1.
    """

    stack: Text | Annotated[list[Text], Field(min_length=1, max_length=7)] = "generic"
    failure_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Storage(Section):
    """``[storage]``: of the development data; v1 of the paper, not covered unless the section is there.

    Attributes:
        medium: ssd or hdd.
        raid: level.
        disks: of the array; the least that the level needs unless given.
    """

    medium: Literal["ssd", "hdd"]
    raid: Raid = "none"
    disks: Whole | None = None

    @model_validator(mode="after")
    def _enough_disks(self) -> Storage:
        if self.disks is not None and self.disks < RAID_MINIMUM_DISKS[self.raid]:
            raise ValueError(f"disks: {self.raid} needs at least {RAID_MINIMUM_DISKS[self.raid]}, found {self.disks}")
        return self


class Preprocessing(Section):
    """``[preprocessing]`` of the development data and of every inference's."""

    method: Literal["zscore", "minmax", "gadf", "none"]


class Training(Section):
    """``[training]`` and evaluation.

    Attributes:
        epochs: N_ep.
        split: share of the samples that is trained on, the rest evaluates; or
        folds: of a cross-validation.
        flops_factor: FLOPs of a training step over those of a forward pass; the paper's 3 is forward plus twice that.
    """

    epochs: Whole
    split: Annotated[float, Field(gt=0, lt=1)] | None = None
    folds: Annotated[Whole, Field(ge=2)] | None = None
    flops_factor: Positive = 3.0

    @model_validator(mode="after")
    def _split_or_folds(self) -> Training:
        if (self.split is None) == (self.folds is None):
            found = "neither" if self.split is None else "both"
            raise ValueError(f"give split (for example 0.8) or folds (for example 5), found {found}")
        return self


class Inference(Section):
    """``[inference]``.

    Attributes:
        count: gamma.
        samples_per_inference: N_I,P.
    """

    count: Annotated[Whole, Field(le=MAX_INFERENCES)] = 1
    samples_per_inference: Whole = 1


class Overhead(Section):
    """``[overhead]``: gamma_v, the share that virtualization adds to everything."""

    virtualization: Annotated[float, Field(ge=0, le=1)] = 0.0


class Rate(Section):
    """How computation costs: one of four ways.

    Attributes:
        joules_per_flop: a constant, J.
        watts: with `flops_per_s`: peak power over peak rate.
        flops_per_s: peak rate.
        processor: TDP over peak float32 rate of a processor of the authors' package or of the hardware list.
        hardware: a profile by name or file (`aiwq hardware`), calibrated or from a datasheet.
        peak_share: share of the peak rate that is reached, for the middle two; the paper assumes all of it.
    """

    joules_per_flop: Positive | None = None
    watts: Positive | None = None
    flops_per_s: Positive | None = None
    processor: Text | None = None
    hardware: Text | None = None
    peak_share: Annotated[float, Field(gt=0, le=1)] = 1.0

    @property
    def ways(self) -> list[str]:
        """The ways that are given."""
        given = {
            "joules_per_flop": self.joules_per_flop,
            "watts and flops_per_s": self.watts if self.watts is not None else self.flops_per_s,
            "processor": self.processor,
            "hardware": self.hardware,
        }
        return [way for way, value in given.items() if value is not None]

    @model_validator(mode="after")
    def _one_way(self) -> Rate:
        if len(self.ways) > 1:
            raise ValueError(
                f"give one of joules_per_flop, watts and flops_per_s, processor, hardware; found {self.ways}"
            )
        if (self.watts is None) != (self.flops_per_s is None):
            raise ValueError("watts and flops_per_s belong together: peak power over peak rate")
        if self.peak_share != 1.0 and self.watts is None and self.processor is None:
            raise ValueError("peak_share belongs to watts and flops_per_s, or to processor")
        return self


class StageRate(Rate):
    """``[compute.STAGE]``."""

    @model_validator(mode="after")
    def _some_way(self) -> StageRate:
        if not self.ways:
            raise ValueError("give one of joules_per_flop, watts and flops_per_s, processor, hardware")
        return self


class Compute(Rate):
    """``[compute]``: for all stages, and ``[compute.STAGE]`` for one; evaluation as training unless given."""

    preprocessing: StageRate | None = None
    training: StageRate | None = None
    evaluation: StageRate | None = None
    inference: StageRate | None = None


class Model(Section):
    """``[model]``: what runs, a number or a file.

    Attributes:
        forward_flops: M, FLOPs of one forward pass.
        file: an ONNX model, counted; relative to the life cycle file.
        flops: what a FLOP of a counted model is: any `basic_operations` (add, sub, mul, div, root, compare), or twice
            the `macs`.
        bind: values of the model's symbolic dimensions.
        samples_per_run: samples that one run of the file processes (its batch).
    """

    forward_flops: Positive | None = None
    file: Text | None = None
    flops: Literal["basic_operations", "macs"] = "basic_operations"
    bind: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    samples_per_run: Whole = 1

    @model_validator(mode="after")
    def _one_model(self) -> Model:
        if (self.forward_flops is None) == (self.file is None):
            found = "neither" if self.file is None else "both"
            raise ValueError(f"give forward_flops (a number) or file (an ONNX model), found {found}")
        return self


class Conventions(Section):
    """``[conventions]``: coding choices of the authors, as published unless given; see `lifecycle.links.Coding`.

    Attributes:
        layer_terms: `every_layer` as published, or `equation_3`.
        hop_payload: `original` as published, or `chained`.
        inference_hops: `last` as published (inference data travel the last hop), or `all`.
        whole_bits: true as published (overhead is cut to whole bits).
    """

    layer_terms: LayerTerms = "every_layer"
    hop_payload: HopPayload = "original"
    inference_hops: Literal["last", "all"] = "last"
    whole_bits: bool = True


class LifeCycle(Section):
    """A life cycle file."""

    data: Data
    hops: tuple[Hop, ...] = Field(default=(Hop(),), strict=False)
    protocols: tuple[OwnProtocol, ...] = Field(default=(), strict=False)
    storage: Storage | None = None
    preprocessing: Preprocessing | None = None
    training: Training | None = None
    inference: Inference = Inference()
    overhead: Overhead = Overhead()
    compute: Compute = Compute()
    model: Model | None = None
    conventions: Conventions = Conventions()
