"""What the exporters take: a module with example inputs, and wrappers that give transformers models plain tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Axes = Mapping[str, Mapping[int, str]]


@dataclass(frozen=True)
class Network:
    """A module ready to export: example inputs in the order of `forward`, names of outputs and of dynamic axes.

    `dynamo_fixes` names the axes that `torch.export` cannot keep dynamic; they get the size of the example.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    dynamic_axes: Axes
    dynamo_fixes: frozenset[str] = frozenset()


class Fields(nn.Module):
    """A transformers model that returns the named fields of its result as a plain tuple, which both exporters take."""

    def __init__(self, model: nn.Module, fields: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.fields = fields

    def select(self, **inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the model and pick the fields."""
        result = self.model(**inputs)
        return tuple(getattr(result, field) for field in self.fields)


class Encoder(Fields):
    """Text with segment ids, as BERT takes it."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, ...]:
        """All three are int64 [batch, sequence]."""
        return self.select(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)


class Decoder(Fields):
    """Text without segments, as GPT-2 takes it."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Both are int64 [batch, sequence]."""
        return self.select(input_ids=input_ids, attention_mask=attention_mask)


class Vision(Fields):
    """Images."""

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Float32 [batch, 3, height, width]."""
        return self.select(pixel_values=pixel_values)


TEXT_AXES = {0: "batch", 1: "sequence"}
IMAGE_AXES = {0: "batch"}


def token_ids(batch: int = 2, sequence: int = 16) -> Tensor:
    """Random token ids below 100, int64 [batch, sequence]."""
    return torch.randint(0, 100, (batch, sequence))


def image_network(model: nn.Module, output: str, output_axes: Mapping[int, str] = IMAGE_AXES) -> Network:
    """Wrap a transformers vision model with 224 x 224 images and a dynamic batch."""
    inputs = {"pixel_values": torch.randn(2, 3, 224, 224)}
    return Network(Vision(model, (output,)), inputs, (output,), {"pixel_values": IMAGE_AXES, output: output_axes})
