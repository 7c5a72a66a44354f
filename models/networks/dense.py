"""Networks whose output is an image or a grid: a detector, a diffusion U-Net, segmentation, an autoencoder."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18
from torchvision.models.segmentation.fcn import FCNHead

from networks.network import IMAGE_AXES, Network

ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
"""Width and height in pixels of the boxes that each of the three grids starts from, as published with YOLOv3."""


def yolo_small() -> Network:
    """A detector of the size of YOLOv5s (Jocher et al. 2022), 320 x 320, 80 classes, boxes decoded."""
    return Network(Detector(), {"image": torch.randn(1, 3, 320, 320)}, ("boxes",), {})


def diffusion_unet() -> Network:
    """Two levels of the U-Net of latent diffusion (Rombach et al. 2022): 320 and 640 channels, latents of 24 x 24."""
    inputs = {"latents": torch.randn(1, 4, 24, 24), "step": torch.tensor([10]), "context": torch.randn(1, 77, 768)}
    return Network(DiffusionUNet(), inputs, ("noise",), {})


def fcn_resnet18() -> Network:
    """Fully convolutional segmentation (Long et al. 2015) on a ResNet-18 of stride 32, 21 classes, 224 x 224."""
    axes = dict.fromkeys(("image", "mask_logits"), IMAGE_AXES)
    return Network(Segmentation(), {"image": torch.randn(2, 3, 224, 224)}, ("mask_logits",), axes)


def autoencoder() -> Network:
    """Four strided convolutions to 512 channels of 8 x 8 and four transposed ones back, 128 x 128 images."""
    axes = dict.fromkeys(("image", "reconstruction"), IMAGE_AXES)
    return Network(autoencoder_layers(), {"image": torch.randn(2, 3, 128, 128)}, ("reconstruction",), axes)


def unit(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int | None = None) -> nn.Sequential:
    """Convolution, batch normalisation, SiLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 if padding is None else padding, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.SiLU())


class Residual(nn.Module):
    """A 1x1 and a 3x3 unit, with a shortcut where asked for."""

    def __init__(self, width: int, shortcut: bool) -> None:
        super().__init__()
        self.units = nn.Sequential(unit(width, width), unit(width, width, 3))
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Float32 [batch, width, rows, columns]."""
        return x + self.units(x) if self.shortcut else self.units(x)


class CrossStage(nn.Module):
    """Cross-stage partial block (Wang et al. 2020): half the channels pass the residual units, half go round them."""

    def __init__(self, inputs: int, outputs: int, units: int, shortcut: bool = True) -> None:
        super().__init__()
        half = outputs // 2
        self.through = nn.Sequential(unit(inputs, half), *(Residual(half, shortcut) for _ in range(units)))
        self.around = unit(inputs, half)
        self.merge = unit(2 * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Float32 [batch, inputs, height, width] -> [batch, outputs, height, width]."""
        return self.merge(torch.cat([self.through(x), self.around(x)], dim=1))


class PyramidPooling(nn.Module):
    """Three chained 5x5 maximum poolings beside their input (He et al. 2014, in its serial form)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.leave = unit(width, width // 2), unit(2 * width, width)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        """Float32 [batch, width, height, width]."""
        levels = [self.enter(x)]
        for _ in range(3):
            levels.append(self.pool(levels[-1]))
        return self.leave(torch.cat(levels, dim=1))


class Detector(nn.Module):
    """Cross-stage backbone, path-aggregation neck (Liu et al. 2018), one 1x1 head on each of three grids."""

    def __init__(self, classes: int = 80) -> None:
        super().__init__()
        stem = (unit(3, 32, 6, 2, 2), unit(32, 64, 3, 2), CrossStage(64, 64, 1), unit(64, 128, 3, 2))
        self.fine = nn.Sequential(*stem, CrossStage(128, 128, 2))
        self.middle = nn.Sequential(unit(128, 256, 3, 2), CrossStage(256, 256, 3))
        self.coarse = nn.Sequential(unit(256, 512, 3, 2), CrossStage(512, 512, 1), PyramidPooling(512), unit(512, 256))
        self.up_middle = nn.Sequential(CrossStage(512, 256, 1, shortcut=False), unit(256, 128))
        self.up_fine = CrossStage(256, 128, 1, shortcut=False)
        self.down_middle, self.down_coarse = unit(128, 128, 3, 2), unit(256, 256, 3, 2)
        self.merge_middle = CrossStage(256, 256, 1, shortcut=False)
        self.merge_coarse = CrossStage(512, 512, 1, shortcut=False)
        self.values = classes + 5
        self.heads = nn.ModuleList(nn.Conv2d(width, 3 * self.values, 1) for width in (128, 256, 512))

    def forward(self, image: Tensor) -> Tensor:
        """Float32 [batch, 3, height, width], sides divisible by 32 -> [batch, boxes, 5 + classes]."""
        fine = self.fine(image)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = self.up_middle(torch.cat([functional.interpolate(coarse, scale_factor=2.0), middle], dim=1))
        fine = self.up_fine(torch.cat([functional.interpolate(middle, scale_factor=2.0), fine], dim=1))
        middle = self.merge_middle(torch.cat([self.down_middle(fine), middle], dim=1))
        coarse = self.merge_coarse(torch.cat([self.down_coarse(middle), coarse], dim=1))
        grids = zip(self.heads, (fine, middle, coarse), (8, 16, 32), ANCHORS, strict=True)
        return torch.cat([self.decode(head(maps), stride, anchors) for head, maps, stride, anchors in grids], dim=1)

    def decode(self, maps: Tensor, stride: int, anchors: tuple[tuple[int, int], ...]) -> Tensor:
        """Turn the maps of one grid into centres and sizes in pixels and scores, [batch, boxes, 5 + classes]."""
        batch, _, height, width = maps.shape
        scores = maps.view(batch, 3, self.values, height, width).permute(0, 1, 3, 4, 2).sigmoid()
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centres = (scores[..., :2] * 2.0 - 0.5 + torch.stack([columns, rows], dim=-1)) * stride
        sizes = (scores[..., 2:4] * 2.0) ** 2 * torch.tensor(anchors, dtype=torch.float32).view(1, 3, 1, 1, 2)
        return torch.cat([centres, sizes, scores[..., 4:]], dim=-1).view(batch, -1, self.values)


class TimedResidual(nn.Module):
    """Two 3x3 convolutions after group normalisation and SiLU; the embedding of the time step is added between."""

    def __init__(self, inputs: int, outputs: int, time: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.GroupNorm(32, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(time, outputs))
        self.leave = nn.Sequential(nn.GroupNorm(32, outputs), nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1))
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Float32 [batch, inputs, height, width], [batch, time]."""
        return self.shortcut(x) + self.leave(self.enter(x) + self.time(time)[:, :, None, None])


class Attention(nn.Module):
    """Attention of tokens to a context, themselves by default, 8 heads."""

    def __init__(self, width: int, context: int, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key, self.value = nn.Linear(context, width, bias=False), nn.Linear(context, width, bias=False)
        self.merge = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Float32 [batch, tokens, width], [batch, context tokens, context]."""
        query, key, value = (
            y.view(y.shape[0], y.shape[1], self.heads, -1).transpose(1, 2)
            for y in (self.query(x), self.key(context), self.value(context))
        )
        return self.merge(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class SpatialTransformer(nn.Module):
    """Self-attention, attention to the text and a gated feed-forward layer over all positions of a map."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(32, width)
        self.enter, self.leave = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.self_attention, self.text_attention = Attention(width, width), Attention(width, context)
        self.gated, self.down = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Float32 [batch, width, rows, columns], [batch, context tokens, context]."""
        batch, width, rows, columns = x.shape
        tokens = self.enter(self.group_norm(x)).flatten(2).transpose(1, 2)
        normed = self.norms[0](tokens)
        tokens = tokens + self.self_attention(normed, normed)
        tokens = tokens + self.text_attention(self.norms[1](tokens), context)
        hidden, gate = self.gated(self.norms[2](tokens)).chunk(2, dim=-1)
        tokens = tokens + self.down(hidden * functional.gelu(gate))
        return x + self.leave(tokens.transpose(1, 2).reshape(batch, width, rows, columns))


class DiffusionUNet(nn.Module):
    """One level down and up around a coarser one; every level has a timed residual block and a transformer."""

    def __init__(self, width: int = 320, context: int = 768) -> None:
        super().__init__()
        time = 4 * width
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time))
        self.enter = nn.Conv2d(4, width, 3, padding=1)
        self.fine, self.fine_text = TimedResidual(width, width, time), SpatialTransformer(width, context)
        self.down = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.coarse, self.coarse_text = TimedResidual(width, 2 * width, time), SpatialTransformer(2 * width, context)
        self.up = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.merge, self.merge_text = TimedResidual(3 * width, width, time), SpatialTransformer(width, context)
        self.leave = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, 4, 3, padding=1))

    def forward(self, latents: Tensor, step: Tensor, context: Tensor) -> Tensor:
        """Float32 [batch, 4, rows, columns], int64 [batch], float32 [batch, tokens, context]."""
        half = self.width // 2
        angles = step[:, None] * torch.exp(torch.arange(half) * (-math.log(10000.0) / half))
        time = self.time(torch.cat([angles.cos(), angles.sin()], dim=-1))
        fine = self.fine_text(self.fine(self.enter(latents), time), context)
        coarse = self.coarse_text(self.coarse(self.down(fine), time), context)
        raised = self.up(functional.interpolate(coarse, scale_factor=2.0))
        return self.leave(self.merge_text(self.merge(torch.cat([raised, fine], dim=1), time), context))


class Segmentation(nn.Module):
    """The convolutions of ResNet-18, the head of torchvision's FCN, bilinear enlargement to the image."""

    def __init__(self, classes: int = 21) -> None:
        super().__init__()
        self.body = nn.Sequential(*list(resnet18(weights=None).children())[:-2])
        self.head = FCNHead(512, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Float32 [batch, 3, height, width], sides divisible by 32 -> [batch, classes, height, width]."""
        return functional.interpolate(self.head(self.body(image)), scale_factor=32.0, mode="bilinear")


def autoencoder_layers(channels: tuple[int, ...] = (3, 64, 128, 256, 512)) -> nn.Sequential:
    """Strided convolutions through the channels and transposed convolutions back, each with batch normalisation."""
    layers: list[nn.Module] = []
    for wide_in, wide_out in itertools.pairwise(channels):
        layers += [nn.Conv2d(wide_in, wide_out, 4, 2, 1, bias=False), nn.BatchNorm2d(wide_out), nn.LeakyReLU(0.2)]
    back = channels[::-1]
    for wide_in, wide_out in itertools.pairwise(back[:-1]):
        layers += [nn.ConvTranspose2d(wide_in, wide_out, 4, 2, 1, bias=False), nn.BatchNorm2d(wide_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(back[-2], back[-1], 4, 2, 1), nn.Tanh())
