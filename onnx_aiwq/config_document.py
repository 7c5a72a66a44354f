"""What a configuration file may say: its keys, and what may stand there."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from onnx_aiwq.errors import suggestion

Size = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


class Options(_Strict):
    """What an analysis is told; None and empty where the file does not say."""

    bind: dict[str, Size] = Field(default_factory=dict)
    shape: dict[str, tuple[Size, ...]] = Field(default_factory=dict)
    hardware: str | None = None
    region: str | None = None
    carbon_intensity: float | None = None
    carbon_profile: str | None = None
    hour: int | None = None
    pue: float | None = None
    utilization: float | None = None
    embodied_kg: float | None = None
    lifetime_years: float | None = None
    inferences: int | None = None
    level: Literal["inference", "validation", "training"] | None = None
    loss: Literal["mse", "cross-entropy", "bce"] | None = None
    optimizer: Literal["sgd", "adam"] | None = None
    bp: Literal["instance", "batch"] | None = None
    mini_batch: int | None = None
    convention: Literal["default", "paper"] | None = None
    lifecycle: str | None = None

    @field_validator("shape", mode="before")
    @classmethod
    def _arrays_are_shapes(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: tuple(dims) if isinstance(dims, list) else dims for name, dims in value.items()}


class Rules(Options):
    """Budgets and tolerances by metric, as text; ``none`` lifts one. A count may be a bare integer."""

    budgets: dict[str, str | int | float] = Field(default_factory=dict)
    tolerances: dict[str, str | int | float] = Field(default_factory=dict)


class Override(Rules):
    """Rules for the models that a glob names."""

    models: str | tuple[str, ...]

    @field_validator("models", mode="before")
    @classmethod
    def _globs(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @property
    def globs(self) -> tuple[str, ...]:
        """The globs, one or several."""
        return (self.models,) if isinstance(self.models, str) else self.models


class GatePolicy(Rules):
    """What the gate checks: `models` are globs, `baseline` a report or a folder of reports."""

    models: tuple[str, ...] = ()
    baseline: str | None = None
    overrides: tuple[Override, ...] = ()

    @field_validator("models", "overrides", mode="before")
    @classmethod
    def _arrays(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class _File(Options):
    gate: GatePolicy = Field(default_factory=GatePolicy)


def parse_config(table: Any) -> tuple[Options, GatePolicy]:
    """The options and the policy of a table of a configuration file.

    Raises:
        ValueError: if a key does not fit; one line with every problem.
    """
    try:
        parsed = _File.model_validate(table)
    except ValidationError as error:
        raise ValueError(_one_line(error)) from None
    options = {name: getattr(parsed, name) for name in Options.model_fields}
    return Options.model_construct(**options), parsed.gate


def _one_line(error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(part) for part in problem["loc"])
        message = " ".join(problem["msg"].removeprefix("Value error, ").split())
        if problem["type"] == "extra_forbidden":
            key = str(problem["loc"][-1])
            known = {name for model in (_File, GatePolicy, Override) for name in model.model_fields}
            message = f"no such key;{suggestion(key, known)}".rstrip(";")
        problems.append(f"{place!r}: {message}")
    return "; ".join(dict.fromkeys(problems))
