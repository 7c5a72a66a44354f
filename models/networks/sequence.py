"""Recurrent networks, one-dimensional convolutions, speech, and a plain perceptron."""

from __future__ import annotations

import itertools
import math

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from networks.network import Network, token_ids

SEQUENCE = 128


def gru_language_model() -> Network:
    """GRU (Cho et al. 2014) language model: embedding 10000 x 512, 2 layers of 512, 10000 words out."""
    return Network(RecurrentModel(nn.GRU, 10_000, 512), {"input_ids": token_ids(1, SEQUENCE)}, ("logits",), {})


def lstm_language_model() -> Network:
    """The medium LSTM of Zaremba et al. (2014): 2 layers of 650, vocabulary 10000."""
    return Network(RecurrentModel(nn.LSTM, 10_000, 650), {"input_ids": token_ids(1, SEQUENCE)}, ("logits",), {})


def tcn() -> Network:
    """The temporal convolutions of Bai et al. (2018) for words: 4 levels of 600, kernel 3, vocabulary 10000."""
    return Network(TemporalConvolutions(), {"input_ids": token_ids(1, SEQUENCE)}, ("logits",), {})


def conformer_small() -> Network:
    """Encoder of Conformer-S (Gulati et al. 2020): 16 blocks of 144, 10 s of 80 mels, 1024 word pieces out."""
    return Network(Conformer(), {"features": torch.randn(1, 1000, 80)}, ("logits",), {})


def wav2vec2() -> Network:
    """wav2vec 2.0 base (Baevski et al. 2020) cut to 2 of 12 transformer layers, 1 s of sound at 16 kHz."""
    config = transformers.Wav2Vec2Config(num_hidden_layers=2)
    return Network(Sound(transformers.Wav2Vec2Model(config)), {"sound": torch.randn(1, 16_000)}, ("states",), {})


def perceptron() -> Network:
    """Three hidden layers of 1024, 2048 and 1024 between 784 inputs and 10 classes, batch 16."""
    widths = (784, 1024, 2048, 1024)
    layers: list[nn.Module] = []
    for wide_in, wide_out in itertools.pairwise(widths):
        layers += [nn.Linear(wide_in, wide_out), nn.ReLU()]
    module = nn.Sequential(*layers, nn.Linear(widths[-1], 10), nn.Softmax(dim=-1))
    return Network(module, {"pixels": torch.randn(16, widths[0])}, ("probabilities",), {})


class RecurrentModel(nn.Module):
    """Embedding, two recurrent layers of the same width, one linear layer to the vocabulary."""

    def __init__(self, layer: type[nn.RNNBase], vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.recurrent = layer(width, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Int64 [batch, sequence] -> float32 [batch, sequence, vocabulary]."""
        return self.head(self.recurrent(self.embedding(input_ids))[0])


class CausalBlock(nn.Module):
    """Two dilated convolutions that see the past alone, and a shortcut; weight normalisation is folded."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.past = (kernel - 1) * dilation
        self.first = nn.Conv1d(width, width, kernel, dilation=dilation)
        self.second = nn.Conv1d(width, width, kernel, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Float32 [batch, width, steps]."""
        hidden = torch.relu(self.first(functional.pad(x, (self.past, 0))))
        hidden = torch.relu(self.second(functional.pad(hidden, (self.past, 0))))
        return torch.relu(hidden + x)


class TemporalConvolutions(nn.Module):
    """Causal blocks with dilations 1, 2, 4, ..., between an embedding and a projection that share their weights."""

    def __init__(self, vocabulary: int = 10_000, width: int = 600, levels: int = 4, kernel: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.Sequential(*(CausalBlock(width, kernel, 2**level) for level in range(levels)))
        self.head = nn.Linear(width, vocabulary)
        self.head.weight = self.embedding.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        """Int64 [batch, sequence] -> float32 [batch, sequence, vocabulary]."""
        return self.head(self.blocks(self.embedding(input_ids).transpose(1, 2)).transpose(1, 2))


class RelativeAttention(nn.Module):
    """Self-attention with the relative positions of Transformer-XL (Dai et al. 2019)."""

    def __init__(self, width: int, heads: int, steps: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.norm = nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.position = nn.Linear(width, width, bias=False)
        self.merge = nn.Linear(width, width)
        self.content_bias = nn.Parameter(torch.zeros(heads, 1, self.size))
        self.position_bias = nn.Parameter(torch.zeros(heads, 1, self.size))
        self.register_buffer("distances", sinusoids(torch.arange(steps - 1, -steps, -1), width))

    def split(self, x: Tensor) -> Tensor:
        """Reshape [batch, steps, width] to [batch, heads, steps, size]."""
        return x.view(x.shape[0], x.shape[1], self.heads, self.size).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Float32 [batch, steps, width]."""
        normed = self.norm(x)
        query, key, value = self.split(self.query(normed)), self.split(self.key(normed)), self.split(self.value(normed))
        position = self.split(self.position(self.distances)[None])
        content = (query + self.content_bias) @ key.transpose(2, 3)
        shifted = shift((query + self.position_bias) @ position.transpose(2, 3))
        weights = torch.softmax((content + shifted) / math.sqrt(self.size), dim=-1)
        return self.merge((weights @ value).transpose(1, 2).flatten(2))


class ConvolutionModule(nn.Module):
    """Gated pointwise convolution, depthwise convolution over time, batch normalisation, SiLU, pointwise."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.enter = nn.Conv1d(width, 2 * width, 1)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.batch_norm = nn.BatchNorm1d(width)
        self.leave = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Float32 [batch, steps, width]."""
        gated = functional.glu(self.enter(self.norm(x).transpose(1, 2)), dim=1)
        return self.leave(functional.silu(self.batch_norm(self.depthwise(gated)))).transpose(1, 2)


class ConformerBlock(nn.Module):
    """Half a feed-forward layer, attention, convolution, half a feed-forward layer, each with a shortcut."""

    def __init__(self, width: int, heads: int, kernel: int, steps: int) -> None:
        super().__init__()
        self.before, self.after = feed_forward(width), feed_forward(width)
        self.attention = RelativeAttention(width, heads, steps)
        self.convolution = ConvolutionModule(width, kernel)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Float32 [batch, steps, width]."""
        x = x + 0.5 * self.before(x)
        x = x + self.attention(x)
        x = x + self.convolution(x)
        return self.norm(x + 0.5 * self.after(x))


class Conformer(nn.Module):
    """Two strided convolutions over time and frequency, conformer blocks, one linear layer to word pieces."""

    def __init__(
        self, width: int = 144, heads: int = 4, layers: int = 16, kernel: int = 31, pieces: int = 1024
    ) -> None:
        super().__init__()
        self.subsample = nn.Sequential(nn.Conv2d(1, width, 3, 2), nn.ReLU(), nn.Conv2d(width, width, 3, 2), nn.ReLU())
        steps, bands = 249, 19  # what the two convolutions leave of 1000 frames and 80 bands
        self.enter = nn.Linear(width * bands, width)
        self.blocks = nn.Sequential(*(ConformerBlock(width, heads, kernel, steps) for _ in range(layers)))
        self.head = nn.Linear(width, pieces)

    def forward(self, features: Tensor) -> Tensor:
        """Float32 [batch, 1000, 80] -> [batch, 249, pieces]."""
        maps = self.subsample(features[:, None])
        return self.head(self.blocks(self.enter(maps.transpose(1, 2).flatten(2))))


class Sound(nn.Module):
    """A transformers model over raw sound that returns its last states."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, sound: Tensor) -> Tensor:
        """Float32 [batch, samples] -> [batch, frames, width]."""
        return self.model(input_values=sound).last_hidden_state


def feed_forward(width: int) -> nn.Sequential:
    """Layer normalisation and two linear layers, 4 times as wide between, with SiLU."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Sines and cosines of the positions (Vaswani et al. 2017), float32 [positions, width]."""
    frequencies = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = positions[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def shift(scores: Tensor) -> Tensor:
    """Align scores by distance, [batch, heads, steps, 2 steps - 1], with the steps of the keys, [..., steps]."""
    batch, heads, steps, distances = scores.shape
    padded = functional.pad(scores, (1, 0)).view(batch, heads, distances + 1, steps)
    return padded[:, :, 1:].reshape(batch, heads, steps, distances)[..., :steps]
