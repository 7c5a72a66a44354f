"""Huge models: counted exactly, in seconds, in little memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import large_models
from large_models import VARIANTS, decoder, write_many_files, write_two_gibibytes
from onnx_aiwq.graph import load
from onnx_aiwq.loading import read_skeleton
from onnx_aiwq.report import analyze


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_decoder_of_70_billion_parameters(variant: str) -> None:
    report = analyze(decoder(variant).SerializeToString(), bind={"batch": 2, "sequence": 128}).to_dict()
    assert report["totals"]["macs"] == large_models.macs(2, 128)
    assert report["coverage"]["unsupported"] == 0 and not report["totals"]["partial"]
    assert large_models.parameters() == 68_976_648_192  # as published
    if variant != "4-bit":
        assert report["model"]["parameters"] == large_models.parameters()
        assert report["model"]["parameter_bytes"] == large_models.parameters() * (4 if variant == "float32" else 2)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_file_of_two_gibibytes(tmp_path: Path) -> None:
    path = tmp_path / "two.onnx"
    write_two_gibibytes(path)
    assert path.stat().st_size == 2**31 - 1
    wall, cpu, peak = large_models.measured(["analyze", str(path), "--format", "json"])
    assert cpu < 20 and peak < 400 << 20, (wall, cpu, peak)
    graph = load(path)
    rows, columns = graph.parameters[0].shape or ()
    assert graph.outputs[0].shape == (1, columns) and 4 * rows * columns > 2**31 - 2**21


@pytest.mark.slow
def test_ten_thousand_external_files(tmp_path: Path) -> None:
    path = write_many_files(tmp_path)
    graph = load(path)
    assert len(graph.operators) == 10_000 and graph.outputs[0].shape == (4, 1)
    read = [operator.inputs[1] for operator in graph.operators if operator.op_type == "Gather"]
    assert [int(tensor.value[0]) for tensor in read if tensor is not None and tensor.value is not None] == [
        *range(1, 10_000, 2)
    ]
    assert read_skeleton(path).size_bytes == path.stat().st_size
