"""How the values of options are read."""

from __future__ import annotations

from onnx_aiwq.errors import PolicyError, ShapeError, suggestion

UNITS = ("inference", "1000", "user", "request")
_MAX_POINTS = 1000  # of a sweep


def choose(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise `PolicyError` unless the value of an option is one of those allowed."""
    if value not in allowed:
        raise PolicyError(
            f"{option} {value!r}: expected one of {', '.join(allowed)};{suggestion(value, allowed)}".rstrip(";")
        )


def parse_bindings(given: list[str] | None) -> dict[str, int]:
    """The values of `--bind`, by dimension."""
    bindings: dict[str, int] = {}
    for text in given or []:
        name, separator, value = text.rpartition("=")
        if not separator or not name or not value.strip().isdecimal():
            raise ShapeError(
                f"--bind {text!r}: expected NAME=INT with a non-negative integer, for example --bind batch=8"
            )
        if bindings.get(name, int(value)) != int(value):
            raise ShapeError(f"--bind {name}: bound to {bindings[name]} and to {value}; give it once")
        bindings[name] = int(value)
    return bindings


def parse_shapes(given: list[str] | None) -> dict[str, tuple[int, ...]]:
    """The values of `--shape`, by input."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in given or []:
        name, separator, value = text.rpartition("=")
        dims = [dim.strip() for dim in value.split(",")] if value.strip() else []
        if not separator or not name or not all(dim.isdecimal() for dim in dims):
            raise ShapeError(f"--shape {text!r}: expected INPUT=D1,D2,..., for example --shape input=1,3,224,224")
        if name in shapes:
            raise ShapeError(f"--shape {name}: given twice; give each input once")
        shapes[name] = tuple(int(dim) for dim in dims)
    return shapes


def parse_comp_res(given: str | None) -> dict[str, float] | None:
    """The figures of `--comp-res`, by name."""
    if given is None:
        return None
    figures: dict[str, float] = {}
    for part in given.split(","):
        name, separator, value = part.partition("=")
        try:
            number = float(value) if separator else None
        except ValueError:
            number = None
        if number is None or name.strip() in figures:
            raise PolicyError(
                f"--comp-res {given!r}: expected NAME=NUMBER,... with each name once, as in cpu_gips=40,ram_gt_per_s=5"
            )
        figures[name.strip()] = number
    return figures


def per_unit(per: str, request: int | None, user: int | None) -> int | None:
    """The inferences of one unit of `--per`."""
    choose("--per", per, UNITS)
    for name, number in (("request", request), ("user", user)):
        if number is not None and per != name:
            raise PolicyError(f"--inferences-per-{name} {number}: belongs to --per {name}")
    return request if per == "request" else user


def parse_range(option: str, text: str) -> list[int]:
    """Whole numbers from ``FROM:TO`` (tenfold), ``FROM:TO:xFACTOR`` or ``FROM:TO:+STEP``; 1e6 is a whole number."""
    parts = text.split(":")
    step = parts[2] if len(parts) == 3 else "x10"
    numbers = [_whole(number) for number in (*parts[:2], step[1:])]
    start, stop, by = numbers if len(numbers) == 3 else (None, None, None)
    if len(parts) not in (2, 3) or step[:1] not in ("x", "+") or start is None or stop is None or by is None:
        raise PolicyError(f"{option} {text!r}: expected FROM:TO:xFACTOR or FROM:TO:+STEP, for example 100:1e8:x10")
    if start < 1 or stop < start or by < (2 if step[0] == "x" else 1):
        raise PolicyError(
            f"{option} {text!r}: expected 1 <= FROM <= TO, a factor of at least 2 or a step of at least 1"
        )
    values = [start]
    while (following := values[-1] * by if step[0] == "x" else values[-1] + by) <= stop:
        values.append(following)
        if len(values) > _MAX_POINTS:
            raise PolicyError(f"{option} {text!r}: more than {_MAX_POINTS} points; take a larger step")
    return values


def _whole(text: str) -> int | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if abs(number) < 1e19 and number == int(number) else None
