"""Exact integer formulas in symbolic dimensions; see `formula`."""

from onnx_aiwq.symbolic.extremes import at_least, at_most
from onnx_aiwq.symbolic.formula import Dim, Formula, UndecidableError, evaluated, simplified, symbol
from onnx_aiwq.symbolic.parsing import parse

__all__ = ["Dim", "Formula", "UndecidableError", "at_least", "at_most", "evaluated", "parse", "simplified", "symbol"]
