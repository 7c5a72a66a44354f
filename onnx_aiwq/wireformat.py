"""Copy an ONNX protobuf without its weights: the wire format is walked and large tensor payloads are stepped over.

Only messages that can hold a large tensor are entered; whatever is smaller than the limit is copied as it is, so that
the walk reads a few bytes per node and touches no page of a memory map that holds nothing but weights.
Wire format: https://protobuf.dev/programming-guides/encoding ; field numbers: onnx.proto of ONNX 1.23.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, overload

from onnx_aiwq.errors import ModelError

PAYLOAD_LIMIT_BYTES = 4096  # what decides shapes (axes, shape vectors, small index tables) is smaller than this
INLINE_PAYLOAD = "onnx_aiwq:stepped-over"  # stands as external location of a tensor whose payload was left out
MAX_NESTING = 100  # protobuf's own parser stops at the same depth

Chunks = list[memoryview | bytes]


class ByteView(Protocol):
    """Random access to the bytes of a file: a memoryview, or a view that fetches what is read."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, key: int, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> memoryview | bytes: ...


# Message kind -> field number -> kind of that field; fields that are not listed cannot hold a tensor.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
# float_data, int32_data, string_data, int64_data, raw_data, double_data, uint64_data of TensorProto.
_PAYLOAD_FIELDS = frozenset({4, 5, 6, 7, 9, 10, 11})
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def strip_payloads(view: ByteView) -> bytes:
    """Return the bytes of the same ModelProto without tensor payloads above `PAYLOAD_LIMIT_BYTES`.

    A tensor that loses its payload keeps name, type and dims, and is marked as external data at `INLINE_PAYLOAD`.

    Raises:
        ModelError: if the bytes are not well-formed protobuf as far as they are walked.
    """
    return b"".join(_strip(view, 0, len(view), "model", 0))


def _varint(view: ByteView, position: int, end: int) -> tuple[int, int]:
    result = shift = 0
    while position < end and shift < 70:
        byte = view[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
    raise ModelError(f"malformed or truncated protobuf at byte {position}")


def _fields(view: ByteView, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (field number, start of the field, start of its content, end of the field) for one message."""
    position = start
    while position < end:
        begin = position
        tag = view[position]
        position += 1
        if tag >= 0x80:
            tag, position = _varint(view, begin, end)
        wire_type = tag & 7
        content = position
        if wire_type == _LENGTH:
            length, content = _varint(view, position, end)
            position = content + length
        elif wire_type == _VARINT:
            _, position = _varint(view, position, end)
        elif wire_type in (_FIXED32, _FIXED64):
            position += 4 if wire_type == _FIXED32 else 8
        else:
            raise ModelError(f"malformed protobuf at byte {begin}: wire type {wire_type}")
        if tag >> 3 == 0:
            raise ModelError(f"malformed protobuf at byte {begin}: field number 0")
        if position > end:
            raise ModelError(f"truncated protobuf: the field at byte {begin} ends {position - end} bytes past its end")
        yield tag >> 3, begin, content, position


def _strip(view: ByteView, start: int, end: int, kind: str, depth: int) -> Chunks:
    if depth > MAX_NESTING:
        raise ModelError(f"messages nested deeper than {MAX_NESTING} levels at byte {start}")
    if kind == "tensor":
        return _strip_tensor(view, start, end)
    children = _CHILDREN[kind]
    chunks: Chunks = []
    copied = start
    for number, begin, content, stop in _fields(view, start, end):
        child = children.get(number)
        if child is None or stop - content <= PAYLOAD_LIMIT_BYTES:
            continue
        body = _strip(view, content, stop, child, depth + 1)
        chunks.append(view[copied:begin])
        chunks.append(_encode_varint(number << 3 | _LENGTH) + _encode_varint(sum(map(len, body))))
        chunks.extend(body)
        copied = stop
    chunks.append(view[copied:end])
    return chunks


def _strip_tensor(view: ByteView, start: int, end: int) -> Chunks:
    kept: Chunks = []
    payload_bytes = 0
    for number, begin, content, stop in _fields(view, start, end):
        if number in _PAYLOAD_FIELDS:
            payload_bytes += stop - content
        else:
            kept.append(view[begin:stop])
    if payload_bytes <= PAYLOAD_LIMIT_BYTES:
        return [view[start:end]]
    # external_data { key: "location" value: INLINE_PAYLOAD }, data_location: EXTERNAL
    entry = _text_field(1, "location") + _text_field(2, INLINE_PAYLOAD)
    kept.append(_encode_varint(13 << 3 | _LENGTH) + _encode_varint(len(entry)) + entry)
    kept.append(_encode_varint(14 << 3 | _VARINT) + b"\x01")
    return kept


def _text_field(number: int, text: str) -> bytes:
    data = text.encode()
    return _encode_varint(number << 3 | _LENGTH) + _encode_varint(len(data)) + data


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
