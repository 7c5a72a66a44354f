"""Models as large as they come, without weights: a decoder of 70 billion parameters, a file of 2 GiB, 10,000 files.

`python tests/large_models.py FOLDER` builds them there and prints what analysing each one costs.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hostile_models import field, varint

FLOAT, FLOAT16, INT64, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.UINT8
# Llama 2 70B: layers, hidden size, query heads, key and value heads, size of a head, feed-forward size, vocabulary.
LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD, FEED, VOCABULARY = 80, 8192, 64, 8, 128, 28_672, 32_000
BLOCK = 32  # weights that share a scale in the 4-bit variant
VARIANTS = ("float32", "float16", "4-bit")


def parameters() -> int:
    """Weights of the whole decoder; the published figure is 68,976,648,192."""
    attention = 2 * HIDDEN * HEADS * HEAD + 2 * HIDDEN * KV_HEADS * HEAD
    return 2 * VOCABULARY * HIDDEN + LAYERS * (attention + 3 * HIDDEN * FEED + 2 * HIDDEN) + HIDDEN


def macs(batch: int, sequence: int) -> int:
    """Multiply-accumulate pairs of one pass over a prompt, by hand."""
    tokens = batch * sequence
    projections = tokens * (2 * HIDDEN * HEADS * HEAD + 2 * HIDDEN * KV_HEADS * HEAD + 3 * HIDDEN * FEED)
    attention = 2 * batch * HEADS * sequence * sequence * HEAD
    return LAYERS * (projections + attention) + tokens * HIDDEN * VOCABULARY


class _Builder:
    """Collects nodes and initializers; weights are external and absent."""

    def __init__(self, variant: str) -> None:
        self.quantized = variant == "4-bit"
        self.kind = FLOAT if variant == "float32" else FLOAT16
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[TensorProto] = []

    def add(self, op_type: str, *inputs: str, to: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [to], name=to, **attributes))
        return to

    def weight(self, name: str, *dims: int, kind: int | None = None) -> str:
        tensor = TensorProto(name=name, dims=dims, data_type=kind or self.kind, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="absent.bin")
        self.tensors.append(tensor)
        return name

    def constant(self, name: str, value: Any) -> str:
        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def project(self, source: str, name: str, width: int, to: int) -> str:
        if not self.quantized:
            return self.add("MatMul", source, self.weight(f"{name}.weight", width, to), to=name)
        packed = self.weight(f"{name}.weight", to, width // BLOCK, BLOCK // 2, kind=UINT8)
        scales = self.weight(f"{name}.scales", to * width // BLOCK)
        return self.add(
            "MatMulNBits",
            source,
            packed,
            scales,
            to=name,
            domain="com.microsoft",
            K=width,
            N=to,
            bits=4,
            block_size=BLOCK,
        )

    def normalise(self, source: str, name: str) -> str:
        weight = self.weight(f"{name}.weight", HIDDEN)
        return self.add("RMSNormalization", source, weight, to=name, epsilon=1e-5, axis=-1)

    def heads(self, source: str, name: str, shape: str, perm: list[int]) -> str:
        return self.add("Transpose", self.add("Reshape", source, shape, to=f"{name}.split"), to=name, perm=perm)

    def attend(self, source: str, name: str) -> str:
        query = self.project(source, f"{name}.q", HIDDEN, HEADS * HEAD)
        key = self.project(source, f"{name}.k", HIDDEN, KV_HEADS * HEAD)
        value = self.project(source, f"{name}.v", HIDDEN, KV_HEADS * HEAD)
        # [batch, kv heads, queries per kv head, sequence, head]: one key head serves eight query heads.
        query = self.heads(query, f"{name}.qh", "query_shape", [0, 2, 3, 1, 4])
        key = self.heads(key, f"{name}.kh", "key_shape", [0, 2, 3, 4, 1])
        value = self.heads(value, f"{name}.vh", "key_shape", [0, 2, 3, 1, 4])
        scores = self.add("Mul", self.add("MatMul", query, key, to=f"{name}.qk"), "scale", to=f"{name}.scaled")
        weights = self.add("Softmax", scores, to=f"{name}.softmax", axis=-1)
        mixed = self.add("MatMul", weights, value, to=f"{name}.mixed")
        mixed = self.add("Transpose", mixed, to=f"{name}.back", perm=[0, 3, 1, 2, 4])
        return self.project(
            self.add("Reshape", mixed, "hidden_shape", to=f"{name}.joined"), f"{name}.o", HEADS * HEAD, HIDDEN
        )

    def feed_forward(self, source: str, name: str) -> str:
        gate, up = (self.project(source, f"{name}.{part}", HIDDEN, FEED) for part in ("gate", "up"))
        active = self.add("Mul", gate, self.add("Sigmoid", gate, to=f"{name}.sigmoid"), to=f"{name}.silu")
        return self.project(self.add("Mul", active, up, to=f"{name}.product"), f"{name}.down", FEED, HIDDEN)


def decoder(variant: str) -> onnx.ModelProto:
    """The decoder over a prompt of dimensions `batch` and `sequence`; weights are external and absent.

    Args:
        variant: one of `VARIANTS`; embeddings stay in 16 bits where projections have 4.
    """
    build = _Builder(variant)
    build.constant("query_shape", np.int64([0, -1, KV_HEADS, HEADS // KV_HEADS, HEAD]))
    build.constant("key_shape", np.int64([0, -1, KV_HEADS, 1, HEAD]))
    build.constant("hidden_shape", np.int64([0, -1, HEADS * HEAD]))
    build.constant("scale", np.asarray(HEAD**-0.5, np.float32 if variant == "float32" else np.float16))
    stream = build.add("Gather", build.weight("embedding", VOCABULARY, HIDDEN), "tokens", to="embedded")
    for layer in range(LAYERS):
        name = f"layers.{layer}"
        attended = build.attend(build.normalise(stream, f"{name}.norm1"), f"{name}.attention")
        stream = build.add("Add", stream, attended, to=f"{name}.residual1")
        fed = build.feed_forward(build.normalise(stream, f"{name}.norm2"), f"{name}.mlp")
        stream = build.add("Add", stream, fed, to=f"{name}.residual2")
    build.add("Identity", build.project(build.normalise(stream, "norm"), "lm_head", HIDDEN, VOCABULARY), to="logits")
    tokens = helper.make_tensor_value_info("tokens", INT64, ["batch", "sequence"])
    graph = helper.make_graph(build.nodes, "decoder", [tokens], [onnx.ValueInfoProto(name="logits")], build.tensors)
    imports = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports)


def write_two_gibibytes(path: Path, size_bytes: int = 2**31 - 1) -> None:
    """A file of exactly that size: a matrix product whose weight fills it, as a hole that takes no room on the disk."""
    rows = 1 << 14
    columns = (size_bytes - (1 << 20)) // (4 * rows)
    payload = 4 * rows * columns
    node = helper.make_node("MatMul", ["x", "w"], ["y"]).SerializeToString()
    ends = field(11, helper.make_tensor_value_info("x", FLOAT, [1, rows]).SerializeToString())
    ends += field(12, onnx.ValueInfoProto(name="y").SerializeToString())
    tensor = (
        b"\x08" + varint(rows) + b"\x08" + varint(columns) + b"\x10\x01" + field(8, b"w") + b"\x4a" + varint(payload)
    )
    opset = field(8, helper.make_opsetid("", 21).SerializeToString())
    # Every length stands before what it counts, and the documentation of the graph fills the file up to its size.
    before = field(1, node) + b"\x2a" + varint(len(tensor) + payload) + tensor
    filler = size_bytes - len(b"\x08\x0a\x3a") - 5 - len(before) - payload - len(ends) - len(opset) - 1 - 3
    body = len(before) + payload + len(ends) + 1 + 3 + filler
    with path.open("wb") as file:
        file.write(b"\x08\x0a\x3a" + varint(body) + before)
        file.seek(payload, 1)
        file.write(ends + b"\x52" + varint(filler) + b"d" * filler + opset)


def write_many_files(folder: Path, count: int = 10_000) -> Path:
    """A chain of nodes, each with a weight in a file of its own; every second one is a number that is read."""
    nodes, tensors, last = [], [], "x"
    for index in range(count):
        kind, data = (INT64, np.int64([index])) if index % 2 else (FLOAT, np.float32([index]))
        (folder / f"w{index}.bin").write_bytes(data.tobytes())
        tensor = TensorProto(name=f"w{index}", dims=[1], data_type=kind, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=f"w{index}.bin")
        tensors.append(tensor)
        if index % 2:
            nodes.append(helper.make_node("Gather", [last, f"w{index}"], [f"t{index}"], axis=1))
        else:
            nodes.append(helper.make_node("Add", [last, f"w{index}"], [f"t{index}"]))
        last = f"t{index}"
    inputs = [helper.make_tensor_value_info("x", FLOAT, [4, count])]
    graph = helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name=last)], tensors)
    path = folder / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]).SerializeToString())
    return path


def measured(arguments: list[str]) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds and peak bytes of one whole `aiwq` process."""
    program = (
        "import sys; from onnx_aiwq.cli import main\ntry: main()\n"
        # Of this program alone: ru_maxrss of Linux starts at what the parent held.
        "finally: print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0], file=sys.stderr)"
    )
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True, timeout=300
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - started, cpu, 1024 * int(done.stderr.split()[-1])


def build_all(folder: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """(name, file, further arguments) of every large model, written into a folder."""
    for variant in VARIANTS:
        path = folder / f"decoder-{variant}.onnx"
        path.write_bytes(decoder(variant).SerializeToString())
        yield f"decoder of 69 billion parameters, {variant}", path, ["--bind", "batch=1", "--bind", "sequence=128"]
    write_two_gibibytes(folder / "two.onnx")
    yield "file of 2 GiB", folder / "two.onnx", []
    (folder / "many").mkdir(exist_ok=True)
    yield "10,000 external files", write_many_files(folder / "many"), []


def main() -> None:
    for name, path, more in build_all(Path(sys.argv[1])):
        wall, cpu, peak = measured(["analyze", str(path), *more, "--format", "json"])
        print(
            f"| {name} | {path.stat().st_size:,} bytes | {wall:.1f} s | {cpu:.1f} s | {peak / 2**20:.0f} MiB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
