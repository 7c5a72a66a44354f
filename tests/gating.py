"""Shared by the tests of gate and compare: small models, a profile of round numbers, the command in this process."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_aiwq import cli

# Every way out of a line, a cell, a terminal, a tag or a reading direction that a name has.
EVIL = "=cmd()|<script>`]]>&\"'\\\x1b[31m\u202e\u2066\x07\x9b\nINJECTED\r\tx"

# Transistors of one float32 operation, after the formulas of the Transistor Operations paper.
ADD, MUL, COMPARE = 236, 12_736, 316

# A profile of round numbers: 1 nJ and 1 ns per transistor operation, 1 nJ per bit, half to double.
LOW, HIGH = 0.5, 2.0


def dense(path: Path, hidden: int = 4, *, batch: int | str = "batch", nodes: Any = None, name: str = "mm") -> Path:
    """Y = Relu(X[batch, 8] @ W[8, hidden]), or other nodes between X and Y."""
    weight = numpy_helper.from_array(np.ones((8, hidden), np.float32), "W")
    nodes = nodes or [
        helper.make_node("MatMul", ["X", "W"], ["M"], name=name),
        helper.make_node("Relu", ["M"], ["Y"], name="act"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [batch, 8])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)],
        [weight],
    )
    domains = {node.domain for node in nodes if node.domain}
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=opsets), path)
    return path


def with_sigmoid(path: Path, hidden: int = 4) -> Path:
    """The same with a Sigmoid behind the Relu."""
    return dense(
        path,
        hidden,
        nodes=[
            helper.make_node("MatMul", ["X", "W"], ["M"], name="mm"),
            helper.make_node("Relu", ["M"], ["R"], name="act"),
            helper.make_node("Sigmoid", ["R"], ["Y"], name="sig"),
        ],
    )


def transistors(batch: int, hidden: int) -> int:
    """Of `dense`: K = 8 products and K - 1 sums per output, and one comparison."""
    return batch * hidden * (8 * MUL + 7 * ADD + COMPARE)


def moved_bytes(batch: int, hidden: int) -> int:
    """Of `dense` in float32: X, W and M for the product, M and Y for the Relu."""
    return 4 * (8 * batch + 8 * hidden + batch * hidden + 2 * batch * hidden)


def joules(batch: int, hidden: int) -> float:
    """Of `dense` on the profile of round numbers, J."""
    return 1e-9 * (transistors(batch, hidden) + 8 * moved_bytes(batch, hidden))


def profile(path: Path, **changes: Any) -> Path:
    """Write the profile of round numbers."""
    factors = {"low_factor": LOW, "high_factor": HIGH, "basis": "made up"}
    entry = {"family": "*", "dtype": "*", "seconds_per_to": 1e-9, "joules_per_to": 1e-9}
    text = {
        "schema": "onnx_aiwq.profile/1",
        "id": path.stem,
        "name": path.stem,
        "kind": "other",
        "source": "modelled",
        "coefficients": [entry],
        "seconds_per_byte": 0.0,
        "joules_per_bit": 1e-9,
        "static_watts": 0.0,
        "interval": {"level": 0.9, "seconds": factors, "joules": factors},
        **changes,
    }
    path.write_text(json.dumps(text), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Aiwq:
    """The command line in this process: as fast as a function, with the streams and exit codes of a process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["aiwq", *map(str, arguments)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        streams = self._capsys.readouterr()
        err = "\n".join(line for line in streams.err.splitlines() if not line.endswith(" ..."))  # progress
        return Done(int(ended.value.code or 0), streams.out, err)


def refused(done: Done, *fragments: str) -> str:
    """Exit code 2, nothing on stdout, one line that names every fragment."""
    assert (done.code, done.out) == (2, ""), done
    assert len(done.err.splitlines()) == 1, done.err
    assert done.err.startswith("aiwq: ")
    assert "Traceback" not in done.err
    assert "this is a bug of aiwq" not in done.err
    assert done.err.isprintable()
    for fragment in fragments:
        assert fragment in done.err, (fragment, done.err)
    return done.err
