"""Options of the metrics alone: the functional unit of the SCI, and what AIWQ asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.parsing import UNITS, per_unit

if TYPE_CHECKING:
    from onnx_aiwq.metrics.workload import Network


@dataclass(frozen=True)
class Unit:
    """The functional unit of the SCI."""

    per: Annotated[
        str,
        opt.one_of("--per", UNITS, "R of the SCI: what CO2 is divided by."),
    ] = "inference"
    inferences_per_request: Annotated[
        int | None, typer.Option("--inferences-per-request", metavar="N", help="For --per request.")
    ] = None
    inferences_per_user: Annotated[
        int | None, typer.Option("--inferences-per-user", metavar="N", help="For --per user.")
    ] = None

    @property
    def inferences(self) -> int | None:
        """Inferences of one unit; None where the unit says it itself."""
        return per_unit(self.per, self.inferences_per_request, self.inferences_per_user)


@dataclass(frozen=True)
class Workload:
    """What AIWQ asks for beyond the model."""

    comp_res: opt.CompRes = None
    data_scale_bits: Annotated[
        float,
        typer.Option("--data-scale-bits", metavar="BITS", help="S_data of AIWQ eq. 31, which the paper leaves open."),
    ] = 1e12
    latency: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--latency", metavar="S WEIGHT", help="Network latency L and its weight gamma_L in 1/s (AIWQ eq. 32)."
        ),
    ] = None
    bandwidth: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--bandwidth", metavar="BPS WEIGHT", help="Bandwidth B in bit/s and its weight gamma_B in s/bit (eq. 32)."
        ),
    ] = None
    measured_seconds: Annotated[
        float | None,
        typer.Option("--measured-seconds", metavar="S", help="Seconds of a real run, for AW_act (AIWQ eq. 34)."),
    ] = None
    human_hours: Annotated[
        float | None, typer.Option("--human-hours", metavar="H", help="Hours of the same task done by people.")
    ] = None
    residual_human_hours: Annotated[
        float | None,
        typer.Option("--residual-human-hours", metavar="H", help="Hours of people that remain with the AI."),
    ] = None
    human_cost: Annotated[
        float | None, typer.Option("--human-cost-per-hour", metavar="X", help="Cost of an hour of human work.")
    ] = None
    temperature: Annotated[
        float, typer.Option("--temperature", metavar="K", help="Kelvin of the Landauer bound (AIWQ eq. 2).")
    ] = 300.0
    negative_share: Annotated[
        float,
        typer.Option("--negative-share", metavar="F", help="Share of negative Relu inputs, for the Landauer bound."),
    ] = 0.5

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `onnx_aiwq.analyze`.

        Raises:
            PolicyError: if a value does not read, or lacks another that it belongs to.
        """
        from onnx_aiwq.deployment import human_task

        return {
            "comp_res": opt.parse_comp_res(self.comp_res),
            "data_scale_bits": self.data_scale_bits,
            "network": self._network(),
            "measured_seconds": self.measured_seconds,
            "human": human_task(self.human_hours, self.residual_human_hours, self.human_cost),
            "temperature_k": self.temperature,
            "negative_share": self.negative_share,
        }

    def _network(self) -> Network:
        from onnx_aiwq.metrics.workload import Network

        seconds, seconds_weight = self.latency or (0.0, 0.0)
        rate, rate_weight = self.bandwidth or (0.0, 0.0)
        return Network(seconds, rate, seconds_weight, rate_weight)
