"""Reports for tests of pages: small ones with a known content, a large one, one whose names try to break out."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from onnx import helper

import onnx_aiwq as aiwq
from gating import EVIL, dense, profile

LIFE_CYCLE = """
[data]
samples = 256
values_per_sample = 10
bits_per_value = 64
[training]
epochs = 50
split = 0.8
[inference]
count = 100
[overhead]
virtualization = 0.10
"""


def small_report(folder: Path, **options: Any) -> dict[str, Any]:
    """Y = Relu(X[3, 8] @ W[8, 4]) on the profile of round numbers."""
    path = dense(folder / "small.onnx", batch=3)
    return aiwq.analyze(path, hardware=str(profile(folder / "round.json")), region="DEU", **options).to_dict()


def hostile_report(folder: Path) -> dict[str, Any]:
    """Names of nodes, tensors, operators, domains, dimensions and the file itself with every way out."""
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["M" + EVIL], name="</script><script>alert(1)</script>" + EVIL),
        helper.make_node("Foo", ["M" + EVIL], ["F"], domain="acme</style>" + EVIL, name="=cmd()" + EVIL),
        helper.make_node("Relu", ["M" + EVIL], ["Y"], name="a/<img src=x onerror=alert(2)>/{b|c}" + EVIL),
    ]
    path = dense(folder / "<b>evil</b>&amp;.onnx".replace("/", "_"), nodes=nodes, batch="b" + EVIL)
    return aiwq.analyze(path, hardware=str(profile(folder / "round.json"))).to_dict()


def large_report(report: dict[str, Any], nodes: int) -> dict[str, Any]:
    """A report with as many nodes, made from the nodes of a real one."""
    large = copy.deepcopy(report)
    originals = report["nodes"]
    large["nodes"] = [
        {**originals[index % len(originals)], "name": f"/model/block.{index // 40}/part.{index % 40 // 8}/node_{index}"}
        for index in range(nodes)
    ]
    large["graph"]["nodes"] = nodes
    return large


class Markup(HTMLParser):
    """What a browser would make of a page: its elements with attributes, and the text of scripts and data."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.content: list[tuple[str, str]] = []
        self._open = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        self.content.append((self._open, data))

    def of(self, tag: str) -> Iterator[dict[str, str | None]]:
        """Attributes of every element of a kind."""
        return (attributes for name, attributes in self.elements if name == tag)

    def inside(self, tag: str) -> list[str]:
        """Text in elements of a kind, that is more than blanks."""
        return [text for name, text in self.content if name == tag and text.strip()]
