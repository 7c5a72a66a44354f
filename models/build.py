"""Export real architectures and write them as weightless ONNX skeletons.

    python models/build.py            # all files
    python models/build.py bert-base  # the files whose name starts so
    python models/build.py held-out/  # one of the sets for validation
    python models/build.py --list     # what there is
    python models/build.py --table    # the table of the README, from the files on disk

Needs the extra `models` (torch, torchvision, transformers, onnxscript, onnxruntime). Nothing is downloaded: every
network is built from its published configuration with seeded random weights, and the skeleton drops the weights anyway.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
import transformers
from networks import DEVELOPMENT, HELD_OUT, TRACED
from networks.network import (
    IMAGE_AXES,
    TEXT_AXES,
    Decoder,
    Encoder,
    Fields,
    Network,
    image_network,
    token_ids,
)
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from skeleton import strip_weights
from torch import Tensor, nn

FOLDER = Path(__file__).resolve().parent
SEED = 20240613
TORCHSCRIPT_OPSET = 17
DYNAMO_OPSET = 20
CALIBRATION_BATCHES = 4


class Speech(Fields):
    """Log-mel spectrogram in, text out."""

    def forward(
        self, input_features: Tensor, decoder_input_ids: Tensor, decoder_attention_mask: Tensor
    ) -> tuple[Tensor, ...]:
        """Float32 [batch, mels, frames], int64 [batch, sequence] twice.

        The mask is an input because the model, without one, looks for packed sequences with `aten::diff`, which the
        TorchScript exporter does not know.
        """
        return self.select(
            input_features=input_features,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
        )


class Tagger(nn.Module):
    """Embedding, two bidirectional LSTM layers, one linear head per token."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int, tags: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * hidden, tags)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Int64 [batch, sequence] -> float32 [batch, sequence, tags]."""
        hidden, _ = self.lstm(self.embedding(input_ids))
        return self.head(hidden)


class UNet(nn.Module):
    """The U-Net of Ronneberger et al. (2015) with padded convolutions and batch normalisation, 64 to 1024 channels."""

    def __init__(self, classes: int = 2, channels: tuple[int, ...] = (64, 128, 256, 512, 1024)) -> None:
        super().__init__()
        self.down = nn.ModuleList(double_convolution(i, o) for i, o in zip((3, *channels[:-1]), channels, strict=True))
        wide_first = channels[::-1]
        pairs = list(itertools.pairwise(wide_first))
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, kernel_size=2, stride=2) for i, o in pairs)
        self.merge = nn.ModuleList(double_convolution(i, o) for i, o in pairs)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(channels[0], classes, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Float32 [batch, 3, height, width], sides divisible by 16 -> [batch, classes, height, width]."""
        skips = [self.down[0](image)]
        for level in self.down[1:]:
            skips.append(level(self.pool(skips[-1])))
        features = skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            features = merge(torch.cat([skips.pop(), up(features)], dim=1))
        return self.head(features)


def double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        convolution = nn.Conv2d(width, outputs, kernel_size=3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def bert_base() -> Network:
    """BERT base uncased: 12 layers, hidden 768, 12 heads, vocabulary 30522 (`transformers.BertModel`)."""
    module = Encoder(transformers.BertModel(transformers.BertConfig()), ("last_hidden_state", "pooler_output"))
    ids = token_ids()
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    axes = dict.fromkeys((*inputs, "last_hidden_state"), TEXT_AXES) | {"pooler_output": {0: "batch"}}
    return Network(module, inputs, ("last_hidden_state", "pooler_output"), axes)


def gpt2() -> Network:
    """GPT-2 small: 12 layers, hidden 768, 12 heads, vocabulary 50257, no cache (`transformers.GPT2LMHeadModel`)."""
    module = Decoder(transformers.GPT2LMHeadModel(transformers.GPT2Config(use_cache=False)), ("logits",))
    ids = token_ids()
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return Network(module, inputs, ("logits",), dict.fromkeys((*inputs, "logits"), TEXT_AXES))


def whisper_tiny() -> Network:
    """Whisper tiny: 4 + 4 layers, hidden 384, 80 mel bins, 30 s of sound (`WhisperForConditionalGeneration`)."""
    config = transformers.WhisperConfig(
        vocab_size=51865,
        num_mel_bins=80,
        d_model=384,
        encoder_layers=4,
        decoder_layers=4,
        encoder_attention_heads=6,
        decoder_attention_heads=6,
        encoder_ffn_dim=1536,
        decoder_ffn_dim=1536,
        use_cache=False,
    )
    module = Speech(transformers.WhisperForConditionalGeneration(config), ("logits",))
    ids = token_ids()
    inputs = {
        "input_features": torch.randn(2, 80, 3000),
        "decoder_input_ids": ids,
        "decoder_attention_mask": torch.ones_like(ids),
    }
    axes = dict.fromkeys(("decoder_input_ids", "decoder_attention_mask", "logits"), TEXT_AXES)
    axes["input_features"] = {0: "batch"}
    return Network(module, inputs, ("logits",), axes)


def vit_base() -> Network:
    """ViT base, patch 16, 224 x 224: 12 layers, hidden 768, 12 heads (`transformers.ViTModel`, without pooler)."""
    return image_network(transformers.ViTModel(transformers.ViTConfig(), add_pooling_layer=False), "last_hidden_state")


def mobilenet_v2() -> Network:
    """MobileNet V2 1.0, 224 x 224, 1000 classes (`transformers.MobileNetV2ForImageClassification`)."""
    config = transformers.MobileNetV2Config(num_labels=1000)
    return image_network(transformers.MobileNetV2ForImageClassification(config), "logits")


def resnet50() -> Network:
    """ResNet-50, bottlenecks 3-4-6-3, 1000 classes (`transformers.ResNetForImageClassification`)."""
    config = transformers.ResNetConfig(num_labels=1000)
    return image_network(transformers.ResNetForImageClassification(config), "logits")


def lstm() -> Network:
    """Tagger: vocabulary 10000, embedding 128, 2 bidirectional LSTM layers of 256, 17 tags per token (`nn.LSTM`)."""
    inputs = {"input_ids": token_ids(sequence=128)}
    axes = {"input_ids": TEXT_AXES, "tags": TEXT_AXES}
    return Network(Tagger(10_000, 128, 256, 17), inputs, ("tags",), axes, dynamo_fixes=frozenset({"sequence"}))


def unet() -> Network:
    """U-Net: 4 levels down and up, 64 to 1024 channels, 256 x 256 images, 2 classes (`UNet` in `build.py`)."""
    inputs = {"image": torch.randn(2, 3, 256, 256)}
    return Network(UNet(), inputs, ("mask_logits",), {"image": IMAGE_AXES, "mask_logits": IMAGE_AXES})


def seeded(factory: Callable[[], Network]) -> Network:
    """Build a network from a fresh seed, in inference mode, so that a build does not depend on what ran before."""
    torch.manual_seed(SEED)
    network = factory()
    network.module.eval()
    make_distinct(network.module)
    return network


def make_distinct(module: nn.Module) -> None:
    """Add noise to all float parameters and statistics, so that no two are equal.

    A fresh network has many equal ones (biases of 0, scales of 1); the TorchScript exporter would merge them and add
    Identity nodes, which no trained network gets.
    """
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor), alpha=1e-3)


def export_torchscript(network: Network, path: Path) -> None:
    """Export with the TorchScript exporter (tracing); constants are folded."""
    with torch.no_grad():
        torch.onnx.export(
            network.module,
            tuple(network.inputs.values()),
            path,
            dynamo=False,
            opset_version=TORCHSCRIPT_OPSET,
            input_names=list(network.inputs),
            output_names=list(network.outputs),
            dynamic_axes=network.dynamic_axes,
        )


def export_dynamo(network: Network, path: Path) -> None:
    """Export with the dynamo exporter (`torch.export`)."""
    shapes = tuple(
        {i: axis for i, axis in network.dynamic_axes.get(name, {}).items() if axis not in network.dynamo_fixes}
        for name in network.inputs
    )
    with torch.no_grad():
        torch.onnx.export(
            network.module,
            tuple(network.inputs.values()),
            path,
            dynamo=True,
            opset_version=DYNAMO_OPSET,
            verbose=False,
            input_names=list(network.inputs),
            output_names=list(network.outputs),
            dynamic_shapes=shapes,
            external_data=False,
        )


def torchscript(factory: Callable[[], Network], path: Path) -> None:
    """Write the TorchScript export of a network to `path`, with weights."""
    export_torchscript(seeded(factory), path)


def dynamo(factory: Callable[[], Network], path: Path) -> None:
    """Write the dynamo export of a network to `path`, with weights."""
    export_dynamo(seeded(factory), path)


class RandomCalibration(quantization.CalibrationDataReader):
    """A few seeded normal batches for `quantize_static`; weights are random too, so real images would add nothing."""

    def __init__(self, inputs: Mapping[str, Tensor]) -> None:
        self._batches = self._generate({name: tuple(tensor.shape) for name, tensor in inputs.items()})

    @staticmethod
    def _generate(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[dict[str, np.ndarray]]:
        generator = np.random.default_rng(SEED)
        for _ in range(CALIBRATION_BATCHES):
            yield {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, or None when all are used."""
        return next(self._batches, None)


def qdq_int8(factory: Callable[[], Network], path: Path) -> None:
    """Write a static int8 model in QDQ form: batch 1, fixed shape, per-channel int8 weights, int8 activations.

    The float model goes through the pre-processing that onnxruntime recommends: constants are folded, pads absorbed.
    """
    network = seeded(factory)
    single = {name: tensor[:1] for name, tensor in network.inputs.items()}
    float_path, folded_path = path.with_suffix(".float.onnx"), path.with_suffix(".folded.onnx")
    export_torchscript(Network(network.module, single, network.outputs, {}), float_path)
    quant_pre_process(float_path, folded_path, skip_symbolic_shape=True)
    quantization.quantize_static(
        folded_path,
        path,
        RandomCalibration(single),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
    )


def dynamic_int8(factory: Callable[[], Network], path: Path) -> None:
    """Write a dynamically quantised model (DynamicQuantizeLinear, MatMulInteger) of the TorchScript export."""
    float_path = path.with_suffix(".float.onnx")
    export_torchscript(seeded(factory), float_path)
    quantization.quantize_dynamic(float_path, path, weight_type=quantization.QuantType.QInt8)


NETWORKS: dict[str, Callable[[], Network]] = {
    "bert-base": bert_base,
    "resnet50": resnet50,
    "mobilenet-v2": mobilenet_v2,
    "gpt2": gpt2,
    "vit-base": vit_base,
    "whisper-tiny": whisper_tiny,
    "lstm": lstm,
    "unet": unet,
}

SETS = {"held-out": HELD_OUT, "development": DEVELOPMENT}
"""Folder -> networks for validation, one file each."""

FILES: dict[str, Callable[[Path], None]] = {
    **{f"{name}.torchscript": partial(torchscript, factory) for name, factory in NETWORKS.items()},
    **{f"{name}.dynamo": partial(dynamo, factory) for name, factory in NETWORKS.items()},
    "mobilenet-v2.qdq-int8": partial(qdq_int8, mobilenet_v2),
    "bert-base.dynamic-int8": partial(dynamic_int8, bert_base),
    **{
        f"{folder}/{name}": partial(torchscript if name in TRACED else dynamo, factory)
        for folder, networks in SETS.items()
        for name, factory in networks.items()
    },
}


def build(name: str) -> Path:
    """Export the file called `name` (without suffix), strip its weights and write the skeleton beside this script."""
    path = FOLDER / f"{name}.onnx"
    with tempfile.TemporaryDirectory() as scratch:
        full_path = Path(scratch) / path.name
        FILES[name](full_path)
        skeleton = strip_weights(onnx.load(full_path), location=f"{path.stem}.weights")
    if path.parent != FOLDER:
        # The files at the top keep what the exporter declares of intermediate shapes, as a test of it.
        del skeleton.graph.value_info[:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(skeleton.SerializeToString(deterministic=True))
    return path


def table(files: list[str]) -> str:
    """Return the Markdown table of the README for the skeletons on disk; elements are those of all initializers."""
    lines = ["| file | opset | nodes | initializer elements | kB |", "|---|--:|--:|--:|--:|"]
    for file in files:
        path = FOLDER / f"{file}.onnx"
        model = onnx.load(path, load_external_data=False)
        opset = next(entry.version for entry in model.opset_import if entry.domain == "")
        elements = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
        size_kb = path.stat().st_size / 1000
        lines.append(f"| `{file}.onnx` | {opset} | {len(model.graph.node)} | {elements:,} | {size_kb:.0f} |")
    return "\n".join(lines)


def main() -> int:
    """Build what the command line names, everything by default; 2 when a name matches no file."""
    parser = argparse.ArgumentParser(description="Export architectures as weightless ONNX skeletons.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a file without .onnx, or the start of several")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--table", action="store_true", help="print a Markdown table of the files on disk and stop")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if not any(file.startswith(name) for file in FILES)]
    if unknown:
        parser.error(f"no such file: {', '.join(unknown)}; --list shows all names")
    chosen = [file for file in sorted(FILES) if not arguments.names or file.startswith(tuple(arguments.names))]
    if arguments.list:
        print("\n".join(chosen))
        return 0
    if arguments.table:
        print(table(chosen))
        return 0
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    for file in chosen:
        path = build(file)
        print(f"{path.name}\t{path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
