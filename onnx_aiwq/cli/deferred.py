"""Modules that are imported when they are used, so that a command that does not need them starts sooner.

onnx-ir and onnx-shape-inference import sympy, a third of all that an analysis imports, and need it for dimensions that
have no number; onnx imports two forms of text that protobuf can write. Only the command's own process is touched, and
never what is imported already; a library that comes to use one of them as it is imported merely has it imported then.
"""

from __future__ import annotations

import importlib.machinery
import sys
import threading
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader

_DEFERRED = (
    "sympy",
    "onnx_ir._symbolic_shapes",
    "onnx_shape_inference._symbolic_shapes",
    "onnx_shape_inference._constraints",
    "google.protobuf.json_format",
    "google.protobuf.text_format",
)
_LOADING = threading.RLock()


class _Deferred(ModuleType):
    """A module whose code runs once something asks for what is in it."""

    def __getattr__(self, name: str) -> Any:  # asked for what is missing alone: what importing sets is there
        with _LOADING:
            loader = self.__dict__.pop("__deferred__", None)
            if loader is not None:
                loader.exec_module(self)
                self.__class__ = ModuleType  # type: ignore[assignment]  # it is one like any other now
        return ModuleType.__getattribute__(self, name)


class _Loader:  # as importlib.abc.Loader has it; importing that takes longer than all of this
    def __init__(self, real: Loader) -> None:
        self._real = real

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Deferred(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__deferred__"] = self._real


class _Finder:
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _DEFERRED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


def defer_imports() -> None:
    """From here on, these modules run when they are first used."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
