"""The errors of onnx_aiwq: one small tree, messages that name the place, the expectation and the next step."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from onnx_aiwq.bounds import one_message


class AiwqError(Exception):
    """Base of every error that a user can act on; the command line prints it as one line and exits with 2.

    Names from a file may hold control characters or a megabyte; what the message says of them is printable and short.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(one_message(message))


class ModelError(AiwqError):
    """The file is not a model that can be analysed: unreadable, malformed, cyclic, undefined inputs."""


class UnreadableError(ModelError):
    """The file cannot be had: it does not exist, may not be read, or the network or its server fails."""


class ShapeError(AiwqError):
    """A binding or shape that the user gave does not fit the model, or a needed dimension is unbound."""


class UnsupportedOperatorError(AiwqError):
    """Operators without a rule or a function body, where a complete count was demanded."""


class ProfileError(AiwqError):
    """A hardware profile that does not exist or does not validate."""


class MeterError(AiwqError):
    """An energy meter that cannot be read on this machine."""


class PolicyError(AiwqError):
    """A gate policy, a life cycle or another option that does not validate."""


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """Return `` did you mean 'x'?`` with the nearest known names, or an empty string when none is near."""
    # Case is the commonest slip, so names are compared without it.
    by_fold = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(wrong.casefold(), by_fold, n=3, cutoff=0.6)
    if not near:
        near = [fold for fold in by_fold if wrong and wrong.casefold() in fold][:3]
    if not near:
        return ""
    return " did you mean " + " or ".join(repr(by_fold[name]) for name in near) + "?"
