"""Image classifiers: torchvision and transformers where they have the network, short modules otherwise."""

from __future__ import annotations

import torch
import transformers
from torch import Tensor, nn
from torchvision import models as zoo
from torchvision.models.resnet import Bottleneck, ResNet

from networks.network import IMAGE_AXES, Network, image_network


def plain_image_network(module: nn.Module, side: int = 224) -> Network:
    """Wrap a module that takes square images and returns logits, with a dynamic batch."""
    return Network(
        module, {"image": torch.randn(2, 3, side, side)}, ("logits",), dict.fromkeys(("image", "logits"), IMAGE_AXES)
    )


def efficientnet_b0() -> Network:
    """EfficientNet-B0 (Tan and Le 2019): inverted bottlenecks with squeeze-excitation and SiLU."""
    return plain_image_network(zoo.efficientnet_b0(weights=None))


def resnext50() -> Network:
    """ResNeXt-50 32x4d (Xie et al. 2017): grouped 3x3 convolutions."""
    return plain_image_network(zoo.resnext50_32x4d(weights=None))


def convnext_tiny() -> Network:
    """ConvNeXt-T (Liu et al. 2022): depthwise 7x7, layer normalisation over channels, GELU."""
    return plain_image_network(zoo.convnext_tiny(weights=None))


def swin_tiny() -> Network:
    """Swin-T (Liu et al. 2021): attention in shifted windows of 7 x 7 with a relative position bias."""
    return plain_image_network(zoo.swin_t(weights=None))


def mobilenet_v3_large() -> Network:
    """MobileNetV3-Large 1.0 (Howard et al. 2019): hard-swish, squeeze-excitation with hard-sigmoid."""
    return plain_image_network(zoo.mobilenet_v3_large(weights=None))


def mobilevit_small() -> Network:
    """MobileViT-S (Mehta and Rastegari 2022), 256 x 256: inverted bottlenecks and attention over unfolded patches."""
    config = transformers.MobileViTConfig(num_labels=1000)
    return plain_image_network(Logits(transformers.MobileViTForImageClassification(config)), side=256)


def poolformer_s12() -> Network:
    """PoolFormer-S12 (Yu et al. 2022): average pooling in the place of attention, group normalisation."""
    config = transformers.PoolFormerConfig(
        depths=[2, 2, 6, 2], hidden_sizes=[64, 128, 320, 512], mlp_ratio=4.0, num_labels=1000
    )
    return image_network(transformers.PoolFormerForImageClassification(config), "logits")


def mixer_s16() -> Network:
    """MLP-Mixer S/16 (Tolstikhin et al. 2021): 8 layers, hidden 512, 196 patches."""
    return plain_image_network(Mixer())


def resnet18() -> Network:
    """ResNet-18 (He et al. 2016)."""
    return plain_image_network(zoo.resnet18(weights=None))


def resnet34() -> Network:
    """ResNet-34 (He et al. 2016)."""
    return plain_image_network(zoo.resnet34(weights=None))


def regnet_y_400mf() -> Network:
    """RegNetY-400MF (Radosavovic et al. 2020): grouped bottlenecks with squeeze-excitation."""
    return plain_image_network(zoo.regnet_y_400mf(weights=None))


def se_resnet50() -> Network:
    """SE-ResNet-50 (Hu et al. 2018): squeeze-excitation with reduction 16 in every bottleneck."""
    return plain_image_network(ResNet(SqueezeExcitedBottleneck, [3, 4, 6, 3]))


def mobilenet_v1() -> Network:
    """MobileNet 1.0 (Howard et al. 2017): depthwise-separable convolutions."""
    config = transformers.MobileNetV1Config(num_labels=1000)
    return image_network(transformers.MobileNetV1ForImageClassification(config), "logits")


def vgg11() -> Network:
    """VGG-11, configuration A (Simonyan and Zisserman 2015), without batch normalisation."""
    return plain_image_network(zoo.vgg11(weights=None))


def deit_small() -> Network:
    """DeiT-S without distillation (Touvron et al. 2021): 12 layers, hidden 384, 6 heads, patch 16."""
    config = transformers.ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536, num_labels=1000)
    return image_network(transformers.ViTForImageClassification(config), "logits")


class Logits(nn.Module):
    """A transformers classifier that takes and returns one plain tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """Float32 [batch, 3, height, width] -> [batch, classes]."""
        return self.model(pixel_values=image).logits


class SqueezeExcitedBottleneck(Bottleneck):
    """The bottleneck of torchvision with channels reweighted before the shortcut is added."""

    def __init__(self, inplanes: int, planes: int, *args: object, **options: object) -> None:
        super().__init__(inplanes, planes, *args, **options)
        width = planes * self.expansion
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width // 16, 1),
            nn.ReLU(),
            nn.Conv2d(width // 16, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Float32 [batch, channels, height, width]."""
        features = self.relu(self.bn1(self.conv1(x)))
        features = self.relu(self.bn2(self.conv2(features)))
        features = self.bn3(self.conv3(features))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(features * self.gate(features) + shortcut)


class MixerLayer(nn.Module):
    """One MLP over patches and one over channels, each after a layer normalisation."""

    def __init__(self, patches: int, width: int, patch_hidden: int, channel_hidden: int) -> None:
        super().__init__()
        self.patch_norm, self.channel_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.patch_mlp = perceptron(patches, patch_hidden)
        self.channel_mlp = perceptron(width, channel_hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """Float32 [batch, patches, width]."""
        tokens = tokens + self.patch_mlp(self.patch_norm(tokens).transpose(1, 2)).transpose(1, 2)
        return tokens + self.channel_mlp(self.channel_norm(tokens))


class Mixer(nn.Module):
    """MLP-Mixer, size S/16 of table 1 of the paper by default."""

    def __init__(self, layers: int = 8, width: int = 512, patch: int = 16, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.layers = nn.Sequential(*(MixerLayer((224 // patch) ** 2, width, 256, 2048) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Float32 [batch, 3, 224, 224] -> [batch, classes]."""
        tokens = self.stem(image).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.layers(tokens)).mean(dim=1))


def perceptron(width: int, hidden: int) -> nn.Sequential:
    """Two linear layers with GELU between them."""
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
