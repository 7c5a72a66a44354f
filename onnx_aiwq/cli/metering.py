"""Options of the commands that measure joules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnx_aiwq.cli import options as opt

if TYPE_CHECKING:
    from onnx_aiwq.calibration.meters import Meter

METERS = ("auto", "rapl", "nvml", "replay", "power-model")


@dataclass(frozen=True)
class Metering:
    """Where joules come from."""

    meter: Annotated[str, opt.one_of("--meter", METERS, "The meter; `aiwq doctor` lists them.")] = "auto"
    watts: Annotated[
        float | None,
        typer.Option("--watts", metavar="W", help="Power at work, for the power model; else published ones."),
    ] = None
    trace: Annotated[
        Path | None, typer.Option("--trace", metavar="FILE", help="Recorded trace, for --meter replay.")
    ] = None

    def check(self) -> None:
        """Raise `PolicyError` if the meter is none, before anything is measured."""
        opt.choose("--meter", self.meter, METERS)

    def open(self, *, provider: str, threads: int | None, processor: str | None = None) -> Meter:
        """The meter, for work of a provider on so many threads; its notes are for the caller to tell.

        Raises:
            MeterError: if it cannot be used here.
        """
        from onnx_aiwq.calibration.meters import open_meter

        return open_meter(
            self.meter,  # type: ignore[arg-type]
            watts=self.watts,
            trace=self.trace,
            threads=threads,
            processor=processor,
            provider=provider,
        )
