"""ONNX files of any size, written as they are encoded with nothing held in memory; standard library only.

Three graphs: a chain, a wide graph of equal branches, and a few MatMul nodes with as many bytes of weights as wanted.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

FLOAT, INT64 = 1, 7
INTS = 7  # AttributeProto.type
BLOCK = ("MatMul", "Add", "Relu", "Reshape", "Conv", "Reshape")
"""Operators of one block; it takes and gives [4, 4]."""

WEIGHT_ROWS = 1000
RANDOM_EVERY_BYTES = 1 << 20
RANDOM_BYTES = 4096

_BRANCH_DEPTH = 4  # blocks in one branch of the wide graph


def write_chain(path: Path, nodes: int) -> None:
    """A chain of at least `nodes` nodes, every block with its own 36 weights."""
    blocks = -(-nodes // len(BLOCK))

    def graph() -> Iterator[bytes]:
        yield from _shared("chain")
        for index in range(blocks):
            yield from _block("input" if index == 0 else f"b{index - 1}.y", index)
        yield _message(12, _value(f"b{blocks - 1}.y", (4, 4)))

    _write(path, graph)


def write_wide(path: Path, nodes: int) -> None:
    """At least `nodes` nodes in branches of 24 that all read the input and meet in one Concat."""
    branches = -(-nodes // (len(BLOCK) * _BRANCH_DEPTH))

    def graph() -> Iterator[bytes]:
        yield from _shared("wide")
        for index in range(branches * _BRANCH_DEPTH):
            yield from _block("input" if index % _BRANCH_DEPTH == 0 else f"b{index - 1}.y", index)
        ends = [f"b{(branch + 1) * _BRANCH_DEPTH - 1}.y" for branch in range(branches)]
        axis = _text(1, "axis") + _number(3, 0) + _number(20, 2)
        yield _message(1, _node("Concat", ends, "result", axis))
        yield _message(12, _value("result", (4 * branches, 4)))

    _write(path, graph)


def write_weights(path: Path, weight_bytes: int) -> None:
    """Ten MatMul nodes with inline float weights of `weight_bytes` in all.

    4 kB of every megabyte are random; the rest is a hole in the file, which reads as zeros and takes no disk.
    """
    columns = weight_bytes // (10 * 4 * WEIGHT_ROWS)
    each = 4 * WEIGHT_ROWS * columns
    heads = [_tensor_head(f"w{index}", (WEIGHT_ROWS, columns), FLOAT) for index in range(10)]
    rest = [_text(2, "weights"), _message(11, _value("input", (1, WEIGHT_ROWS)))]
    for index in range(10):
        rest.append(_message(1, _node("MatMul", ["input", f"w{index}"], f"y{index}")))
        rest.append(_message(12, _value(f"y{index}", (1, columns))))
    starts = []
    for head in heads:
        payload = _varint(9 << 3 | 2) + _varint(each)
        starts.append(_varint(5 << 3 | 2) + _varint(len(head) + len(payload) + each) + head + payload)
    length = sum(map(len, starts)) + 10 * each + sum(map(len, rest))
    with path.open("wb") as file:
        file.write(_model_head() + _varint(7 << 3 | 2) + _varint(length))
        for start in starts:
            file.write(start)
            _write_sparse(file, each)
        file.write(b"".join(rest))


def _write_sparse(file: BinaryIO, length: int) -> None:
    end = file.tell() + length
    while file.tell() + RANDOM_BYTES < end:
        # Small integers as floats: no value is infinite or not a number.
        file.write(struct.pack(f"<{RANDOM_BYTES // 4}f", *os.urandom(RANDOM_BYTES // 4)))
        file.seek(min(RANDOM_EVERY_BYTES - RANDOM_BYTES, end - file.tell()), os.SEEK_CUR)
    file.seek(end)


def _write(path: Path, graph: Callable[[], Iterator[bytes]]) -> None:
    """Write a model whose graph is made twice: once for its length, once for its bytes."""
    length = sum(map(len, graph()))
    with path.open("wb") as file:
        file.write(_model_head() + _varint(7 << 3 | 2) + _varint(length))
        file.writelines(graph())


def _model_head() -> bytes:
    """IR version 8, opset 17 of the default domain."""
    return _number(1, 8) + _message(8, _text(1, "") + _number(2, 17))


def _shared(name: str) -> Iterator[bytes]:
    """What all blocks share: the graph's name, its input, two shapes and a bias."""
    yield _text(2, name)
    yield _message(11, _value("input", (4, 4)))
    yield _message(5, _tensor("image", (4,), INT64, struct.pack("<4q", 1, 4, 2, 2)))
    yield _message(5, _tensor("matrix", (2,), INT64, struct.pack("<2q", 4, 4)))


def _block(source: str, index: int) -> Iterator[bytes]:
    name = f"b{index}"
    weights = struct.pack("<16f", *((index + i) % 7 / 8 for i in range(16)))
    yield _message(5, _tensor(f"{name}.w", (4, 4), FLOAT, weights))
    yield _message(5, _tensor(f"{name}.bias", (4,), FLOAT, weights[:16]))
    yield _message(5, _tensor(f"{name}.k", (4, 4, 1, 1), FLOAT, weights))
    kernel = _text(1, "kernel_shape") + _number(8, 1) + _number(8, 1) + _number(20, INTS)
    yield _message(1, _node("MatMul", [source, f"{name}.w"], f"{name}.m"))
    yield _message(1, _node("Add", [f"{name}.m", f"{name}.bias"], f"{name}.a"))
    yield _message(1, _node("Relu", [f"{name}.a"], f"{name}.r"))
    yield _message(1, _node("Reshape", [f"{name}.r", "image"], f"{name}.i"))
    yield _message(1, _node("Conv", [f"{name}.i", f"{name}.k"], f"{name}.c", kernel))
    yield _message(1, _node("Reshape", [f"{name}.c", "matrix"], f"{name}.y"))


def _node(operator: str, inputs: list[str], output: str, attribute: bytes = b"") -> bytes:
    fields = [*(_text(1, name) for name in inputs), _text(2, output), _text(3, output), _text(4, operator)]
    return b"".join(fields) + (_message(5, attribute) if attribute else b"")


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_message(1, _number(1, size)) for size in shape)
    return _text(1, name) + _message(2, _message(1, _number(1, FLOAT) + _message(2, dims)))


def _tensor(name: str, shape: tuple[int, ...], dtype: int, payload: bytes) -> bytes:
    return _tensor_head(name, shape, dtype) + _message(9, payload)


def _tensor_head(name: str, shape: tuple[int, ...], dtype: int) -> bytes:
    return b"".join(_number(1, size) for size in shape) + _number(2, dtype) + _text(8, name)


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _message(field: int, payload: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(payload)) + payload


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
