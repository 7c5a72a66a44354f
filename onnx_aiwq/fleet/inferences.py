"""How often each model of a fleet runs."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx_aiwq.errors import PolicyError

_MAX_DIGITS = 18


@dataclass(frozen=True)
class Inferences:
    """Inferences by model, or the same number for all.

    Attributes:
        each: of a model that `by_model` does not have.
        by_model: from a file; empty without one.
        file: where they are from.
    """

    each: int = 1
    by_model: Mapping[str, int] = field(default_factory=dict)
    file: str | None = None

    def of(self, model: str) -> int:
        """Inferences of one model."""
        return self.by_model.get(model, self.each)

    def without(self, models: Iterable[str]) -> list[str]:
        """Models that the file says nothing of, which count as never run; none without a file."""
        return [] if self.file is None else sorted(model for model in models if model not in self.by_model)

    def unknown(self, models: Iterable[str]) -> list[str]:
        """Models of the file that are none of these."""
        return sorted(set(self.by_model) - set(models))

    def to_dict(self) -> dict[str, Any]:
        """The number for all, or the file."""
        return {"each": None if self.file else self.each, "file": self.file}


def parse_inferences(text: str) -> Inferences:
    """Read ``--inferences N`` or ``--inferences FILE.csv`` with the columns model and inferences.

    Raises:
        PolicyError: naming the option, or the line of the file.
    """
    if text.isdecimal() and len(text) <= _MAX_DIGITS:
        return Inferences(int(text))
    path = Path(text)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return Inferences(0, dict(_rows(csv.DictReader(stream), text)), text)
    except FileNotFoundError:
        raise PolicyError(f"--inferences {text!r}: expected a whole number, or a CSV file that exists") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PolicyError(f"--inferences {text}: cannot be read as CSV: {error}; check the file") from error


def _rows(reader: csv.DictReader[str], file: str) -> Iterable[tuple[str, int]]:
    missing = {"model", "inferences"} - set(reader.fieldnames or ())
    if missing:
        raise PolicyError(f"--inferences {file}: lacks the column {' and '.join(sorted(missing))}; begin it with "
                          "model,inferences")  # fmt: skip
    seen: set[str] = set()
    for row in reader:
        model, number = row["model"] or "", (row["inferences"] or "").strip()
        place = f"--inferences {file}, line {reader.line_num}"
        if not number.isdecimal() or len(number) > _MAX_DIGITS:
            raise PolicyError(f"{place}: inferences {number!r}; expected a whole number")
        if model in seen:
            raise PolicyError(f"{place}: {model!r} is there twice; give each model once")
        seen.add(model)
        yield model, int(number)
