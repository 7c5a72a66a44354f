"""A local web server that serves byte ranges and counts what it sends, and models that are mostly weights."""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from onnx import NodeProto, TensorProto, helper

LINE = re.compile(r"bytes=(\d+)-(\d*)$")


@dataclass
class Traffic:
    """What a server sent, in bytes of the body and of everything, and how it was asked."""

    body_bytes: int = 0
    all_bytes: int = 0
    requests: list[str] = field(default_factory=list)


@contextlib.contextmanager
def serving(
    folder: Path, *, ranges: bool = True, query: str = "", failing: Mapping[str, int] = MappingProxyType({})
) -> Iterator[tuple[str, Traffic]]:
    """Serve the files of a folder at a URL.

    Args:
        folder: what is served.
        ranges: else the header is disregarded, as simple servers do.
        query: that begins the query of a request, or it is refused; "" takes any.
        failing: file name -> status that it is answered with.
    """
    traffic = Traffic()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # headers and body are written apart

        def setup(self) -> None:
            super().setup()
            send = self.wfile.write

            def counted(data: Any) -> int:
                traffic.all_bytes += len(data)
                return send(data)

            self.wfile.write = counted  # type: ignore[method-assign]

        def log_message(self, *arguments: object) -> None:
            return

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            name, _, asked_with = self.path.lstrip("/").partition("?")
            path = folder / name
            traffic.requests.append(f"{self.command} {self.headers.get('Range', '')}".strip())
            if name in failing or not asked_with.startswith(query):
                self.send_error(failing.get(name, 403))
                return
            if path.is_dir():
                self._listing(path)
                return
            if not path.is_file():
                self.send_error(404)
                return
            size = path.stat().st_size
            asked = LINE.match(self.headers.get("Range") or "") if ranges else None
            start, stop = (int(asked[1]), min(int(asked[2] or size - 1) + 1, size)) if asked else (0, size)
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            self.send_header("Accept-Ranges", "bytes" if ranges else "none")
            self.send_header("Content-Length", str(stop - start))
            self.end_headers()
            with path.open("rb") as file:
                file.seek(start)
                while body and start < stop:
                    data = file.read(min(1 << 16, stop - start))
                    traffic.body_bytes += len(data)
                    self.wfile.write(data)
                    start += len(data)

        def _listing(self, path: Path) -> None:
            links = "".join(f'<a href="{entry.name}">{entry.name}</a>\n' for entry in sorted(path.iterdir()))
            page = f"<html><body>{links}</body></html>".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", traffic
        finally:
            server.shutdown()


Place = Literal["raw_data", "float_data", "constant"]
Piece = tuple[bytes, int, bytes]  # what precedes a payload, its size, what follows it


def write_heavy_model(path: Path, layers: int, width: int, place: Place = "raw_data") -> int:
    """Write a chain of `layers` MatMul with inline float weights [width, width], as a sparse file of zeros.

    Args:
        path: of the file.
        layers: number of weights.
        width: rows and columns of each.
        place: the field that holds the elements of an initializer; or raw_data of `Constant` nodes between the others.

    Returns:
        Multiply-accumulate pairs of the chain for one input row: layers * width^2.
    """
    pieces: list[Piece] = []
    for layer in range(layers):
        product = helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"x{layer + 1}"], name=f"layer{layer}")
        node = product.SerializeToString()
        product_field = b"\x0a" + _varint(len(node)) + node  # field 1 of the graph, node
        if place == "constant":
            pieces += [_constant(f"w{layer}", width), (product_field, 0, b"")]
        else:
            pieces.append((product_field, 0, b""))
    if place != "constant":
        pieces += [_within(0x2A, _tensor(f"w{layer}", width, place)) for layer in range(layers)]  # field 5, initializer
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width]) for name in ("x0", f"x{layers}")]
    pieces.append((helper.make_graph([], "heavy", [ends[0]], [ends[1]]).SerializeToString(), 0, b""))
    bare = helper.make_model(helper.make_graph([], "", [], []), opset_imports=[helper.make_opsetid("", 17)])
    bare.ClearField("graph")
    size = sum(len(before) + payload + len(after) for before, payload, after in pieces)
    with path.open("wb") as file:
        file.write(bare.SerializeToString() + b"\x3a" + _varint(size))  # field 7 of the model, graph
        for before, payload, after in pieces:
            file.write(before)
            file.seek(payload, 1)
            file.write(after)
        file.truncate()
    return layers * width * width


def _tensor(name: str, width: int, place: Place) -> Piece:
    """Fields of a tensor in the order in which protobuf writes them: float_data is field 4, name 8, raw_data 9."""
    kind, payload = {"data_type": TensorProto.FLOAT, "dims": [width, width]}, 4 * width * width
    named = TensorProto(name=name).SerializeToString()
    if place == "float_data":
        return TensorProto(**kind).SerializeToString() + b"\x22" + _varint(payload), payload, named
    return TensorProto(**kind).SerializeToString() + named + b"\x4a" + _varint(payload), payload, b""


def _constant(name: str, width: int) -> Piece:
    """A node whose attribute (field 5) has a name, a tensor (field 5) and a type (field 20: TENSOR)."""
    before, payload, after = _within(0x2A, _tensor("", width, "raw_data"))
    before, payload, after = _within(0x2A, (b"\x0a\x05value" + before, payload, after + b"\xa0\x01\x04"))
    bare = NodeProto(output=[name], op_type="Constant").SerializeToString()
    return _within(0x0A, (bare + before, payload, after))


def _within(tag: int, content: Piece) -> Piece:
    before, payload, after = content
    return bytes([tag]) + _varint(len(before) + payload + len(after)) + before, payload, after


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
