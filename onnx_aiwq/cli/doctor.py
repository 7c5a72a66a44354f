"""`aiwq doctor`: what this machine can measure."""

from __future__ import annotations

from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.streams import table_width, write


def doctor(form: opt.Format = "table", output: opt.Output = None) -> None:
    """Say what this machine can measure (meters, providers, permissions), and what to do about the rest."""
    from onnx_aiwq.calibration.doctor import examine
    from onnx_aiwq.render.doctor import render_doctor

    opt.choose("--format", form, opt.FORMATS)
    write(render_doctor(examine(), form, table_width()), output)
