"""The libraries of the extra `fleet`, imported when a fleet is analysed and not before."""

from __future__ import annotations

import importlib
from typing import Any

from onnx_aiwq.errors import AiwqError
from onnx_aiwq.remote import INSTALL


def need(module: str) -> Any:
    """Import a module of the extra.

    Raises:
        AiwqError: with the line that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise AiwqError(f"aiwq fleet needs {package}, which is not installed; install it with {INSTALL}") from error
