"""Measuring a machine and fitting its profile; the only part of the package that imports onnxruntime."""
