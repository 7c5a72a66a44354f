"""The networks of sets.toml: which there are, and each with weights, ready to run.

for network in networks("development"):
    session = onnxruntime.InferenceSession(network.model().SerializeToString())
    session.run(None, network.inputs())
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from onnx_aiwq.calibration.weights import example_inputs, materialize

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).resolve().parent
SETS = ("held-out", "development")


@dataclass(frozen=True)
class ValidationNetwork:
    """One entry of sets.toml.

    Attributes:
        name: unique, such as "resnet18" or "resnet18.qdq".
        set: one of `SETS`.
        file: the skeleton.
        bindings: size of each symbolic dimension of the file.
        form: int8 form to make of the file (`quantise.FORMS`), None where the file runs as it is.
    """

    name: str
    set: str
    file: Path
    bindings: Mapping[str, int]
    form: str | None = None

    def model(self, seed: int = 0) -> onnx.ModelProto:
        """Return the model with seeded random weights, quantised where `form` says so (that needs onnxruntime)."""
        if self.form is None:
            return materialize(self.file, seed)
        from quantise import quantised

        return quantised(self.file, self.form, self.bindings, seed)

    def inputs(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Return a seeded random array for every input."""
        return example_inputs(onnx.load(self.file, load_external_data=False), self.bindings, seed)


def networks(chosen: str | None = None) -> list[ValidationNetwork]:
    """Return the networks of the set called `chosen`, of both sets by default, in the order of sets.toml.

    Raises ValueError when there is no such set.
    """
    if chosen is not None and chosen not in SETS:
        raise ValueError(f"set {chosen!r}: expected one of {', '.join(SETS)}")
    entries = tomllib.loads((FOLDER / "sets.toml").read_text(encoding="utf-8"))["network"]
    found = [ValidationNetwork(**entry | {"file": FOLDER / entry["file"]}) for entry in entries]
    return [network for network in found if chosen in (None, network.set)]
