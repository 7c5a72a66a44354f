"""Architectures for validation, in two sets without a network in common; `build.py` exports them.

What is in `HELD_OUT` judges the energy model and takes no part in its design; `DEVELOPMENT` may be looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from networks import dense, sequence, text, vision
from networks.network import Network

HELD_OUT: dict[str, Callable[[], Network]] = {
    "conformer-small": sequence.conformer_small,
    "convnext-tiny": vision.convnext_tiny,
    "diffusion-unet": dense.diffusion_unet,
    "distilbert": text.distilbert,
    "efficientnet-b0": vision.efficientnet_b0,
    "gru-language-model": sequence.gru_language_model,
    "mixer-s16": vision.mixer_s16,
    "mobilenet-v3-large": vision.mobilenet_v3_large,
    "mobilevit-small": vision.mobilevit_small,
    "poolformer-s12": vision.poolformer_s12,
    "resnext50": vision.resnext50,
    "swin-tiny": vision.swin_tiny,
    "t5-small": text.t5_small,
    "tcn": sequence.tcn,
    "yolo-small": dense.yolo_small,
}

DEVELOPMENT: dict[str, Callable[[], Network]] = {
    "albert-base": text.albert_base,
    "autoencoder": dense.autoencoder,
    "bert-mini": partial(text.bert, 4, 256),
    "bert-small": partial(text.bert, 4, 512),
    "deit-small": vision.deit_small,
    "distilgpt2": text.distilgpt2,
    "fcn-resnet18": dense.fcn_resnet18,
    "llama-decode": text.llama_decode,
    "llama-prefill": text.llama_prefill,
    "lstm-language-model": sequence.lstm_language_model,
    "mobilenet-v1": vision.mobilenet_v1,
    "perceptron": sequence.perceptron,
    "regnet-y-400mf": vision.regnet_y_400mf,
    "resnet18": vision.resnet18,
    "resnet34": vision.resnet34,
    "se-resnet50": vision.se_resnet50,
    "vgg11": vision.vgg11,
    "wav2vec2": sequence.wav2vec2,
}

TRACED = frozenset({"distilbert", "gru-language-model", "resnext50"})
TRACED |= {"bert-mini", "lstm-language-model", "mobilenet-v1", "resnet34", "vgg11"}
"""Exported by the TorchScript exporter, all others by the dynamo exporter."""
