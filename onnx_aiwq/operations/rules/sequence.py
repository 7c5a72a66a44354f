"""Sequences and optionals: containers of tensors, which cost no arithmetic."""

from __future__ import annotations

from onnx_aiwq.operations.registry import movement

movement(
    *("SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase", "SequenceLength"),
    traffic="view",
    why="Changes or measures a list of references to tensors; their elements stay where they are.",
)
movement(
    "SequenceAt",
    traffic="selected",
    why="Copies one tensor out of a sequence; the others are not touched.",
)
movement(
    "SplitToSequence",
    why="Copies every slice of its input to a tensor of its own.",
)
movement(
    *("Optional", "OptionalGetElement", "OptionalHasElement"),
    traffic="view",
    why="Wraps a value, unwraps it, or asks whether there is one; no element moves.",
)
