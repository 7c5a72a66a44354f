"""Transformers over text, from the configurations of the library `transformers`, and a decoder with a cache."""

from __future__ import annotations

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from networks.network import TEXT_AXES, Decoder, Encoder, Fields, Network, token_ids

SEQUENCE = 128


class Translator(Fields):
    """Text in, text out, without a cache, as T5 takes it."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> tuple[Tensor, ...]:
        """Int64 [batch, sequence] twice, int64 [batch, target]."""
        return self.select(
            input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=decoder_input_ids, use_cache=False
        )


def t5_small() -> Network:
    """T5 small (Raffel et al. 2020): 6 + 6 layers, hidden 512, 8 heads, encoder and decoder in one graph, no cache."""
    config = transformers.T5Config(
        vocab_size=32128, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8, decoder_start_token_id=0
    )
    ids, target = token_ids(1, SEQUENCE), token_ids(1, 32)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": target}
    return Network(Translator(transformers.T5ForConditionalGeneration(config), ("logits",)), inputs, ("logits",), {})


def distilbert() -> Network:
    """DistilBERT base (Sanh et al. 2019): 6 layers, hidden 768, 12 heads, vocabulary 30522."""
    module = Decoder(transformers.DistilBertModel(transformers.DistilBertConfig()), ("last_hidden_state",))
    return masked_text(module, "last_hidden_state")


def bert(layers: int, width: int) -> Network:
    """Return one of the small BERTs of Turc et al. (2019): heads of 64, feed-forward of 4 times the width."""
    config = transformers.BertConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64, intermediate_size=4 * width
    )
    return encoder(transformers.BertModel(config))


def albert_base() -> Network:
    """ALBERT base v2 (Lan et al. 2020): 12 layers that share one set of parameters, hidden 768, embedding 128."""
    config = transformers.AlbertConfig(hidden_size=768, num_attention_heads=12, intermediate_size=3072)
    return encoder(transformers.AlbertModel(config))


def encoder(model: nn.Module) -> Network:
    """Wrap a BERT-like encoder with its pooler; batch and sequence are dynamic."""
    ids = token_ids()
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    axes = dict.fromkeys((*inputs, "last_hidden_state"), TEXT_AXES) | {"pooler_output": {0: "batch"}}
    outputs = ("last_hidden_state", "pooler_output")
    return Network(Encoder(model, outputs), inputs, outputs, axes)


def masked_text(module: nn.Module, output: str) -> Network:
    """Wrap a model that takes ids and a mask; batch and sequence are dynamic."""
    ids = token_ids()
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return Network(module, inputs, (output,), dict.fromkeys((*inputs, output), TEXT_AXES))


def distilgpt2() -> Network:
    """DistilGPT2: GPT-2 (Radford et al. 2019) with 6 layers in place of 12, vocabulary 50257, no cache."""
    config = transformers.GPT2Config(n_layer=6, use_cache=False)
    return masked_text(Decoder(transformers.GPT2LMHeadModel(config), ("logits",)), "logits")


def llama_prefill() -> Network:
    """Read a prompt of 128 tokens with `Llama`; next-token logits of every position."""
    return Network(Llama(), {"input_ids": token_ids(1, SEQUENCE)}, ("logits",), {})


def llama_decode() -> Network:
    """Generate one token with `Llama` after 128 cached ones; the new keys and values are outputs."""
    model = Llama()
    cache = torch.randn(model.layers_in_all, 2, 1, model.key_heads, SEQUENCE, model.head_size)
    inputs = {"input_ids": token_ids(1, 1), "past": cache}
    return Network(Cached(model), inputs, ("logits", "present"), {})


class RootMeanSquareNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) * scale (Zhang and Sennrich 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Float32 [..., width]."""
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.scale


class LlamaLayer(nn.Module):
    """Rotary attention with grouped keys and a gated feed-forward layer, both pre-normalised."""

    def __init__(self, width: int, heads: int, key_heads: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.key_heads, self.size = heads, key_heads, width // heads
        self.norm, self.forward_norm = RootMeanSquareNorm(width), RootMeanSquareNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, key_heads * self.size, bias=False)
        self.value = nn.Linear(width, key_heads * self.size, bias=False)
        self.merge = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, angles: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """Float32 [batch, length, width], [length, size / 2], [2, batch, key heads, cached, size]."""
        batch, length, width = x.shape
        normed = self.norm(x)
        query = rotate(self.query(normed).view(batch, length, self.heads, self.size).transpose(1, 2), angles)
        key = rotate(self.key(normed).view(batch, length, self.key_heads, self.size).transpose(1, 2), angles)
        value = self.value(normed).view(batch, length, self.key_heads, self.size).transpose(1, 2)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        copies = self.heads // self.key_heads
        mixed = functional.scaled_dot_product_attention(
            query, key.repeat_interleave(copies, 1), value.repeat_interleave(copies, 1), is_causal=past is None
        )
        x = x + self.merge(mixed.transpose(1, 2).reshape(batch, length, width))
        normed = self.forward_norm(x)
        return x + self.down(functional.silu(self.gate(normed)) * self.up(normed)), torch.stack([key, value])


class Llama(nn.Module):
    """A decoder after Touvron et al. (2023): 4 layers, hidden 512, 8 heads over 4 keys, gated feed-forward of 1376."""

    layers_in_all, key_heads, head_size = 4, 4, 64

    def __init__(self, vocabulary: int = 32000, width: int = 512, heads: int = 8, hidden: int = 1376) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(LlamaLayer(width, heads, self.key_heads, hidden) for _ in range(self.layers_in_all))
        self.norm = RootMeanSquareNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Int64 [batch, length] -> float32 [batch, length, vocabulary]."""
        return self.run(input_ids, None)[0]

    def run(self, input_ids: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the logits and the keys and values of all layers, the cached ones first."""
        start = 0 if past is None else past.shape[4]
        frequencies = 10000.0 ** (-torch.arange(0, self.head_size, 2) / self.head_size)
        angles = torch.arange(start, start + input_ids.shape[1])[:, None] * frequencies
        x, present = self.embedding(input_ids), []
        for index, layer in enumerate(self.layers):
            x, states = layer(x, angles, None if past is None else past[index])
            present.append(states)
        return self.head(self.norm(x)), torch.stack(present)


class Cached(nn.Module):
    """`Llama` with its cache as input and output."""

    def __init__(self, model: Llama) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Int64 [batch, 1], float32 [layers, 2, batch, key heads, cached, size]."""
        return self.model.run(input_ids, past)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn pairs of features (the two halves) by their angle (Su et al. 2021); x is [batch, heads, length, size]."""
    first, second = x.chunk(2, dim=-1)
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
