"""The two targets: what is fed to them, and what must hold whatever it is. Run by `fuzz/run.py`, one process per slice.

The wire-format loader must refuse with one line, or give a skeleton that holds what the file holds without its large
payloads. The analysis must refuse with one line, or give a report that renders in every form without raw control
characters. Any other exception, a run over 20 seconds of processor time and a process that grows over its memory limit
are findings.
"""

from __future__ import annotations

import functools
import gc
import random
import signal
import sys
import unicodedata
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["onnx_aiwq"]):
    from onnx_aiwq.errors import AiwqError, ModelError
    from onnx_aiwq.hardware_profile import HardwareProfile
    from onnx_aiwq.loading import read_skeleton
    from onnx_aiwq.profiles import load_profile
    from onnx_aiwq.render import FORMATS, render
    from onnx_aiwq.report import analyze
    from onnx_aiwq.wireformat import strip_payloads

import onnx
from google.protobuf.message import DecodeError

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from mutations import mutate

_PAYLOADS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
_TABLE_ONE_IN = 64
_LARGEST_MODEL_BYTES = 65_536  # that is parsed and damaged structurally; above, libFuzzer flips bytes


_HANG_S = 20.0  # of processor time: the process may be stopped while the machine has other work


class FindingError(Exception):
    """Something that must hold does not."""


class HangFindingError(BaseException):
    """An execution took too long; no `except Exception` of a library may end this one."""


def bounded(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """The target under a watch of its processor time."""

    def give_up(*_: Any) -> None:
        raise HangFindingError(f"over {_HANG_S:g} s of processor time")

    signal.signal(signal.SIGPROF, give_up)

    def run(data: bytes) -> None:
        signal.setitimer(signal.ITIMER_PROF, _HANG_S)
        try:
            target(data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    return run


def loader(data: bytes) -> None:
    """The walk over the wire format alone, and its result against protobuf's own parser."""
    try:
        stripped = strip_payloads(memoryview(data))
    except ModelError as error:
        _require_one_line(error)
        return
    if len(stripped) > len(data) + 64 * (1 + data.count(b"\x4a") + len(data) // 4096):
        raise FindingError(f"{len(data)} bytes became {len(stripped)}")
    if stripped == data:
        return
    try:
        before, after = onnx.ModelProto.FromString(data), onnx.ModelProto.FromString(stripped)
    except DecodeError:
        return  # the loader says so one step later
    if len(before.graph.node) != len(after.graph.node):
        raise FindingError("nodes were lost")


@functools.cache
def _profile() -> HardwareProfile:
    """The hardware: reading its file anew would take longer than the analysis of a small model."""
    return load_profile(None)


def analysis(data: bytes) -> None:
    """From the bytes to every form of the report."""
    try:
        report = analyze(data, hardware=_profile()).to_dict()
    except AiwqError as error:
        _require_one_line(error)
        return
    # Laying out a table takes longer than the analysis: a fixed few of all inputs go through it, half through another.
    share = zlib.crc32(data) % _TABLE_ONE_IN
    forms = FORMATS[1 + share // 2 % (len(FORMATS) - 1) :][: share % 2]
    for form in FORMATS if share == 0 else forms:
        text = render(report, form, width=160)
        for character in set(text):
            if character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
                raise FindingError(f"{form} holds the control character {character!r}")


def _require_one_line(error: AiwqError) -> None:
    text = str(error)
    if text.splitlines() != [text] or not text.isprintable() or len(text) > 8000:
        raise FindingError(f"no message of one printable line: {text[:300]!r}")


def damaged(data: bytes, largest: int, seed: int) -> bytes:
    """A mutation for libFuzzer: one in four flips bytes, the others change fields of a model that still parses."""
    source = random.Random(seed)
    if source.random() < 0.25 or len(data) > _LARGEST_MODEL_BYTES:
        return bytes(atheris.Mutate(data, largest))
    try:
        model = onnx.ModelProto.FromString(data)
        result = mutate(model, source, source.choice((1, 1, 1, 2, 4))).SerializeToString()
    except (DecodeError, UnicodeDecodeError, ValueError):
        return bytes(atheris.Mutate(data, largest))
    return result if len(result) <= largest else bytes(atheris.Mutate(data, largest))


TARGETS: dict[str, Callable[[bytes], None]] = {"loader": loader, "analyze": analysis}


def main() -> None:
    """Run libFuzzer on one target; arguments after the name are its own."""
    name, arguments = sys.argv[1], sys.argv[2:]
    read_skeleton(onnx.helper.make_model(onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1])], [onnx.helper.make_tensor_value_info("y", 1, [1])],
    )))  # fmt: skip  # the imports that happen on first use are no time of a run
    warnings.simplefilter("ignore")  # of numpy about odd numbers; each would be formatted
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # as the command line has it
    custom = damaged if name == "analyze" else None
    atheris.Setup([sys.argv[0], *arguments], bounded(TARGETS[name]), custom_mutator=custom)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
