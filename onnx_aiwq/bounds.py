"""What a model file may ask for: every bound that keeps a hostile file from taking all time and memory, in one place.

docs/hostile-files.md has the table. A real model stays far below each of them.
"""

from __future__ import annotations

import hashlib

from onnx_aiwq.addresses import public_address

MAX_NAME_CHARACTERS = 1_000  # of a name in a file; longer ones are shortened as the file is read
MAX_SCOPE_CHARACTERS = 4_000  # of the path of functions and subgraphs around a node
MAX_MESSAGE_WORD, MAX_MESSAGE = 300, 8_000  # characters
MAX_RANK = 256  # dimensions of a tensor; numpy ends at 64
MAX_DIM = 2**63 - 1  # the largest that the file format can hold
MAX_EXPANDED = 60_000  # steps that functions and loops may add: a node walked is one, its elements computed two more
MAX_EXPANSION = 4  # steps for each node of the file, beside these
MAX_EQUATION_CHARACTERS = 4_096  # of an Einsum


def shortened(text: str, most: int) -> str:
    """A text of at most `most` characters; different texts stay different, because a digest of the whole ends them."""
    if len(text) <= most:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    ending = f"...({len(text)} characters, {digest})"
    return text[: most - len(ending)] + ending


def one_message(text: str) -> str:
    """One printable line, its words and itself of a length that a person can read, without the secrets of URLs."""
    words = (shortened(public_address(word), MAX_MESSAGE_WORD) for word in text.split())
    line = " ".join(words)
    if not line.isprintable():
        line = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)
    return shortened(line, MAX_MESSAGE)
