"""onnxsim: its model information, `ModelInfo(model).macs`; input shapes are written into the model."""

from __future__ import annotations

from inputs import answer, arguments, load_bound
from onnxsim.model_info import ModelInfo


def main() -> None:
    answer(int(ModelInfo(load_bound(*arguments())).macs), None)


if __name__ == "__main__":
    main()
