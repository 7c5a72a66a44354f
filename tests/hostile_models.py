"""Model files that somebody made to break whoever reads them, built from nothing; each is a few kilobytes to megabytes.

What is damaged at random stands in `test_bad_input.py` and in `fuzz/`; here is what takes thought.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import onnx
from onnx import TensorProto

from model_parts import value

FLOAT, INT64, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING
MEGABYTE = 1 << 20
Builder = Callable[[], bytes]
HOSTILE: dict[str, Builder] = {}

# What each output form would pass on to whoever reads it next: a terminal, a browser, a spreadsheet, a shell, a parser.
HOSTILE_TEXTS = {
    "ansi": "\x1b[31mred\x1b[0m\x1b]0;title\x07\x9b2J",
    "bidi": "safe\u202etxt.exe\u2066\u2069\u200f",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>&amp;\"'",
    "formula": '=HYPERLINK("http://x","y")',
    "formula behind a space": " =1+1",
    "plus": "+1+1",
    "at": "@SUM(A1)",
    "minus": "-1+1|cmd",
    "full-width formula": "\uff1d1+1",
    "tab": "\t=1+1",
    "path": "../../../etc/passwd",
    "shell": "$(touch pwned)`id`;rm -rf ~|&",
    "markdown": "| a | b |\n---|---\n[x](javascript:alert(1)) ![i](http://x) **b** `c`",
    "json": '","totals":{"macs":0},"x":"',
    "xml": "]]><x/>&#0;<!ENTITY a 'b'>\ufffe\uffff",
    "printf": "%s%n%x{0}{self.__class__}",
    "line ends": "a\nb\rc\u2028d\u2029e\x0bf\x85g\x00h",
    "zero width": "a\u200bb\ufeffc\u00add",
    "combining": "a" + "\u0301" * 500,
    "rich markup": "[bold red]x[/bold red] :warning:",
    "carriage": "good\rbad",
    "private and unassigned": "\ue000\U0010ffff\U000e0041\U000e007f",
}


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of the wire format."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def hostile(name: str) -> Callable[[Callable[[], bytes | onnx.ModelProto]], Builder]:
    """Register a builder."""

    def register(build: Callable[[], bytes | onnx.ModelProto]) -> Builder:
        def data() -> bytes:
            made = build()
            return made if isinstance(made, bytes) else made.SerializeToString()

        HOSTILE[name] = data
        return data

    return register


def register_all(kind: str, made: dict[str, Callable[[], bytes | onnx.ModelProto]]) -> None:
    for name, build in made.items():
        hostile(f"{kind}: {name}")(build)


# --- large, slow to build; marked slow in the tests


def chain(count: int) -> bytes:
    """A chain of Relu nodes, written without the message classes: a million of them would take a minute."""
    nodes = b"".join(
        field(1, field(1, b"x" if not index else b"t%d" % (index - 1)) + field(2, b"t%d" % index) + field(4, b"Relu"))
        for index in range(count)
    )
    return _framed(nodes, b"t%d" % (count - 1))


def initializers(count: int) -> bytes:
    """One node and as many initializers of one element."""
    tensors = b"".join(
        field(5, b"\x08\x01\x10\x01" + field(8, b"w%d" % index) + field(9, struct.pack("<f", 1.0)))
        for index in range(count)
    )
    add = field(1, field(1, b"x") + field(1, b"w0") + field(2, b"y") + field(4, b"Add"))
    return _framed(add + tensors, b"y")


def _framed(content: bytes, output: bytes) -> bytes:
    ends = field(11, value("x").SerializeToString()) + field(12, field(1, output))
    return b"\x08\x0a" + field(7, content + ends) + field(8, field(1, b"") + b"\x10\x15")
