"""onnxsim: its model information, `ModelInfo(model).macs`; input shapes are written into the model.

With --simplify the model is simplified for these shapes before, which folds what computes shapes; it needs weights.
"""

from __future__ import annotations

import argparse

import onnxsim
from inputs import answer, arguments, load_bound, ones
from onnxsim.model_info import ModelInfo


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--simplify", action="store_true")
    path, bindings, given = arguments(parser)
    model = load_bound(path, bindings)
    if given.simplify:
        shapes = {name: list(array.shape) for name, array in ones(model).items()}
        model, _ = onnxsim.simplify(model, overwrite_input_shapes=shapes)
    answer(int(ModelInfo(model).macs), None)


if __name__ == "__main__":
    main()
