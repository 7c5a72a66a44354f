"""Rich output as text: no markup, no colour unless asked for, no blanks at the end of a line."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def printed(parts: Iterable[RenderableType], width: int | None, colour: bool) -> str:
    """What a console of some width shows of some parts.

    Args:
        parts: in order; a string would be taken as text without markup.
        width: columns; the terminal's if None.
        colour: whether there may be ANSI colours.
    """
    from rich.console import Console

    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=colour, no_color=not colour, highlight=False, markup=False, emoji=False
    )
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def columns_of() -> int:
    """Columns of the terminal, as rich finds them."""
    from rich.console import Console

    return Console().width
