"""A model file becomes a skeleton: the whole graph, without the weights.

Inline payloads are stepped over on a memory map, external data is not opened, so that a model of many gigabytes costs
as much as its graph. Small external tensors that decide shapes are read on demand, from the model's folder alone.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from onnx_aiwq.addresses import is_url, public_address
from onnx_aiwq.bounds import MAX_NAME_CHARACTERS, shortened
from onnx_aiwq.errors import ModelError, UnreadableError
from onnx_aiwq.remote import open_ranges, read_beside
from onnx_aiwq.vocabulary import DType
from onnx_aiwq.wireformat import INLINE_PAYLOAD, PAYLOAD_LIMIT_BYTES, ByteView, strip_payloads

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from google.protobuf.message import Message
    from numpy.typing import NDArray

# First bytes of formats that people hand in by mistake -> what to say.
_OTHER_FORMATS = {
    b"PK\x03\x04": "it is a zip archive (a PyTorch checkpoint?); export the model, for example with torch.onnx.export",
    b"\x89HDF": "it is an HDF5 file (a Keras model?); convert it to ONNX, for example with tf2onnx",
    b"\x1f\x8b": "it is gzip-compressed; decompress it first",
    b"<?xm": "it is an XML file (an OpenVINO model?); give the ONNX file that it came from",
}

# What the system says of names that no file has: too long, through a file as if it were a folder, in a circle.
_NO_SUCH_NAME = frozenset({errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP, errno.EINVAL})


class Skeleton(msgspec.Struct, frozen=True):
    """A parsed model without its large tensor payloads.

    Attributes:
        proto: the ModelProto; stepped-over tensors are marked as external data at `wireformat.INLINE_PAYLOAD`.
        path: where the model came from, None for bytes, ModelProto and URLs.
        size_bytes: size of the model file (external data not included).
        graph_sha256: SHA-256 over the skeleton's bytes: the graph, not the values of large weights.
        url: where a model elsewhere came from, with what its server asks for; else None. `address` may be shown.
    """

    proto: onnx.ModelProto
    path: Path | None
    size_bytes: int
    graph_sha256: str
    url: str | None = None

    @property
    def address(self) -> str | None:
        """The URL without what is secret in it."""
        return None if self.url is None else public_address(self.url)

    @property
    def label(self) -> str:
        """How messages name the model."""
        return _label(self.path, self.url)


def _label(path: Path | None, url: str | None) -> str:
    if url is not None:
        return public_address(url)
    return "the model in memory" if path is None else str(path)


def read_skeleton(source: str | os.PathLike[str] | bytes | onnx.ModelProto | Skeleton) -> Skeleton:
    """Read the graph of a model from a path, a URL (by ranges, without its weights), bytes or a ModelProto.

    Raises:
        ModelError: if there is no such file, it cannot be read, or it is not an ONNX model.
        AiwqError: if the libraries that read from this kind of URL are not installed.
    """
    if isinstance(source, Skeleton):
        return source
    if isinstance(source, bytes):
        return _from_view(memoryview(source), None)
    if isinstance(source, str) and is_url(source):
        return _from_view(open_ranges(source), None, source)
    if isinstance(source, str | os.PathLike):
        return _from_path(Path(source))
    return _from_proto(source)


def _from_proto(proto: onnx.ModelProto) -> Skeleton:
    from google.protobuf.message import EncodeError

    try:
        data = proto.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ModelError(
            "the ModelProto in memory is over 2 GB and cannot be serialised: save it with external data "
            "(onnx.save_model(..., save_as_external_data=True)) and give the path"
        ) from error
    return _from_view(memoryview(data), None)


def _from_path(path: Path) -> Skeleton:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ModelError(f"{path}: is a directory, expected an ONNX file{_models_within(path)}")
        if not stat.S_ISREG(mode):
            raise ModelError(f"{path}: is not a regular file, expected an ONNX file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise ModelError(f"{path}: the file is empty, expected an ONNX model; export or download it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                if hasattr(mapped, "madvise") and size > 1 << 20:
                    mapped.madvise(mmap.MADV_RANDOM)  # no read-ahead into weights that are stepped over
                view = memoryview(mapped)
                try:
                    return _from_view(view, path)
                finally:
                    view.release()
    except FileNotFoundError:
        raise UnreadableError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UnreadableError(f"{path}: cannot be read: {reason}; check the path and its permissions") from error


def _models_within(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.glob("*.onnx"))[:3]
    return f"; it holds {', '.join(names)}" if names else ""


def _from_view(view: ByteView, path: Path | None, url: str | None = None) -> Skeleton:
    import onnx
    from google.protobuf.message import DecodeError

    label = _label(path, url)
    head = bytes(view[:8])
    if head[4:8] == b"ORTM":
        raise ModelError(f"{label}: it is in onnxruntime's own .ort format; give the ONNX file that it was made from")
    for magic, advice in _OTHER_FORMATS.items():
        if head.startswith(magic):
            raise ModelError(f"{label}: not an ONNX model: {advice}")
    advice = "expected a binary ONNX ModelProto; check that the export or download is complete"
    try:
        stripped = strip_payloads(view)
        proto = onnx.ModelProto.FromString(stripped)
    except UnreadableError:
        raise
    except ModelError as error:
        raise ModelError(f"{label}: not a readable ONNX model: {error}; {advice}") from None
    except (DecodeError, UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"{label}: not a readable ONNX model: {error}; {advice}") from None
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ModelError(f"{label}: holds no graph; {advice}")
    if not proto.opset_import and proto.ir_version >= 3:
        raise ModelError(f"{label}: declares no operator set (opset_import); {advice}")
    too_long = False
    for text in _texts(proto):
        if not isinstance(text, str):
            raise ModelError(f"{label}: holds names that are not UTF-8 text, as ONNX demands; {advice}")
        too_long = too_long or len(text) > MAX_NAME_CHARACTERS
    if too_long:
        _shorten_names(proto)
    return Skeleton(proto, path, len(view), hashlib.sha256(stripped).hexdigest(), url)


def _texts(proto: onnx.ModelProto) -> Iterator[object]:
    """Every name of the model; protobuf hands out bytes for one that is not UTF-8."""
    yield from (proto.producer_name, proto.producer_version)
    yield from (item.domain for item in proto.opset_import)
    graphs = [proto.graph]
    nodes: list[onnx.NodeProto] = []
    for function in proto.functions:
        yield from (function.name, function.domain, function.overload, *function.input, *function.output)
        yield from (*function.attribute, *(item.domain for item in function.opset_import))
        for declared in (*function.value_info, *function.attribute_proto):
            yield from _texts_within(declared)
        nodes.extend(function.node)
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from (tensor.name for tensor in graph.initializer)
            yield from (sparse.values.name for sparse in graph.sparse_initializer)
            for value in (*graph.input, *graph.output, *graph.value_info):
                yield value.name
                if value.type.HasField("tensor_type"):
                    yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
                else:
                    yield from _texts_within(value.type)
            nodes.extend(graph.node)
            continue
        node = nodes.pop()
        yield from (node.op_type, node.name, node.domain, node.overload, *node.input, *node.output)
        for attribute in node.attribute:
            yield from (attribute.name, attribute.ref_attr_name)
            if attribute.HasField("g"):
                graphs.append(attribute.g)
            graphs.extend(attribute.graphs)
            for kind in (attribute.tp, *attribute.type_protos):
                yield from _texts_within(kind)


def _texts_within(message: Message) -> Iterator[object]:
    """Every text of a message and of those in it, whatever they are; slower than to name them."""
    waiting = [message]
    while waiting:
        for field, value in waiting.pop().ListFields():
            if field.message_type is not None:
                waiting.extend(value if field.is_repeated else (value,))
            elif field.type == field.TYPE_STRING:
                yield from value if field.is_repeated else (value,)


def _shorten_names(model: onnx.ModelProto) -> None:
    """Shorten every name that is longer than any exporter writes: a megabyte per tensor would fill memory and outputs.

    Equal names stay equal and different ones different; attribute values and external locations are no names.
    """
    waiting: list[Message] = [model]
    while waiting:
        message = waiting.pop()
        if message.DESCRIPTOR.name in ("StringStringEntryProto", "TensorAnnotation"):
            continue
        for field, value in message.ListFields():
            if field.message_type is not None:
                waiting.extend(value if field.is_repeated else (value,))
            elif field.type != field.TYPE_STRING:
                continue
            elif field.is_repeated:
                value[:] = [shortened(text, MAX_NAME_CHARACTERS) for text in value]
            else:
                setattr(message, field.name, shortened(value, MAX_NAME_CHARACTERS))


def has_payload(tensor: onnx.TensorProto) -> bool:
    """Whether the elements are at hand in the skeleton (neither external nor stepped over)."""
    return bool(tensor.data_location != 1)


def tensor_values(tensor: onnx.TensorProto, skeleton: Skeleton) -> NDArray[np.generic] | None:
    """The elements of a small tensor, or None: large, absent, string-typed or malformed tensors stay unknown.

    External data is read for integers of up to `PAYLOAD_LIMIT_BYTES` alone, and never from outside the model's folder.
    """
    import onnx

    dtype = DType.from_onnx(tensor.data_type)
    if dtype.bits == 0:
        return None
    if has_payload(tensor):
        try:
            return _array(tensor)
        except (ValueError, TypeError, KeyError):
            return None
    data = _external_bytes(tensor, dtype, skeleton)
    if data is None:
        return None
    return _array(onnx.TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=data))


def _array(tensor: onnx.TensorProto) -> NDArray[np.generic]:
    from onnx import numpy_helper

    elements: NDArray[np.generic] = numpy_helper.to_array(tensor)
    return elements


def _external_bytes(tensor: onnx.TensorProto, dtype: DType, skeleton: Skeleton) -> bytes | None:
    """Bytes of a small external integer tensor from a regular file inside the model's folder, else None."""
    entries: dict[str, Any] = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    size_bytes = 1
    for dim in tensor.dims:
        size_bytes *= dim
    size_bytes = (size_bytes * dtype.bits + 7) // 8
    if location == INLINE_PAYLOAD or not location or not isinstance(location, str):
        return None
    if not dtype.is_integer or not 0 < size_bytes <= PAYLOAD_LIMIT_BYTES:
        return None
    try:
        offset = int(entries.get("offset", "0"))
        if int(entries.get("length", size_bytes)) != size_bytes or offset < 0:
            return None  # more or less than the tensor holds: its neighbour's bytes are not guessed to be its own
    except ValueError:
        return None
    if skeleton.path is not None:
        data = _bytes_beside(skeleton.path, location, offset, size_bytes)
    else:
        data = None if skeleton.url is None else read_beside(skeleton.url, location, offset, size_bytes)
    return data if data is not None and len(data) == size_bytes else None


def _bytes_beside(path: Path, location: str, offset: int, size_bytes: int) -> bytes | None:
    """Bytes of a regular file in the folder of a model, or below; None where there is none.

    Raises:
        UnreadableError: if it is there and cannot be read.
    """
    try:
        folder = path.resolve().parent
        file = (folder / location).resolve()
        if not file.is_relative_to(folder):
            return None
        status = file.stat()
        if not stat.S_ISREG(status.st_mode) or offset + size_bytes > status.st_size:
            return None
        with file.open("rb") as stream:
            stream.seek(offset)
            return stream.read(size_bytes)
    except (FileNotFoundError, RuntimeError, ValueError):  # RuntimeError: a loop of symbolic links, before Python 3.13
        return None
    except OSError as error:
        if error.errno in _NO_SUCH_NAME:
            return None
        raise UnreadableError(
            f"{path}: its external data {location!r} cannot be read: {error.strerror}; check its permissions"
        ) from error
