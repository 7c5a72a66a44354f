"""`aiwq hardware`, `aiwq regions`, `aiwq rules`: what the numbers rest on."""

from __future__ import annotations

from typing import Annotated

import typer

from onnx_aiwq.cli import completion
from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.streams import line_width, write
from onnx_aiwq.errors import PolicyError, suggestion


def hardware(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Profile to show; all without it.", autocompletion=completion.hardware),
    ] = None,
    form: opt.Format = "table",
    output: opt.Output = None,
) -> None:
    """List hardware profiles, or show one with its provenance."""
    from onnx_aiwq.profiles import list_profiles, load_profile
    from onnx_aiwq.render.listing import profile_rows, profile_text, write_rows

    opt.choose("--format", form, opt.FORMATS)
    if name is None:
        rows = profile_rows(list_profiles())
        write(write_rows(("id", "name", "kind", "source", "provider", "origin"), rows, form, line_width()), output)
    else:
        profile = load_profile(name)
        write(profile.to_json() if form == "json" else profile_text(profile, form, line_width()), output)


def regions(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Region to show; all without it.", autocompletion=completion.regions),
    ] = None,
    form: opt.Format = "table",
    output: opt.Output = None,
) -> None:
    """List grid and cloud regions with their carbon intensity, or show one with year, vintage and source."""
    from onnx_aiwq.metrics.regions import find_region, list_regions
    from onnx_aiwq.render.listing import region_rows, region_text, write_rows

    opt.choose("--format", form, opt.FORMATS)
    if name is None:
        columns = ("code", "name", "gCO2e/kWh", "year", "vintage", "PUE")
        write(write_rows(columns, region_rows(list_regions()), form, line_width()), output)
    else:
        write(region_text(find_region(name), form, line_width()), output)


def rules(
    op: Annotated[
        str | None,
        typer.Argument(
            metavar="[OP]", help="Operator to explain; all without it.", autocompletion=completion.operators
        ),
    ] = None,
    form: opt.Format = "table",
    output: opt.Output = None,
) -> None:
    """List cost rules, or explain one."""
    from onnx_aiwq.operations.registry import all_rules, all_uncountable
    from onnx_aiwq.render.listing import rule_rows, rule_text, write_rows

    opt.choose("--format", form, opt.FORMATS)
    known = all_rules()
    if op is None:
        write(
            write_rows(("operator", "domain", "since", "family", "cost"), rule_rows(known), form, line_width()), output
        )
        return
    found = [
        rule for rule in known if op.casefold() in (rule.op_type.casefold(), f"{rule.domain}.{rule.op_type}".casefold())
    ]
    if not found:
        for (domain, op_type), why in all_uncountable().items():
            if op.casefold() in (op_type.casefold(), f"{domain}.{op_type}".casefold()):
                raise PolicyError(f"no cost rule for {op!r}, which cannot be counted: {why}")
        near = suggestion(op, {rule.op_type for rule in known})
        raise PolicyError(f"no cost rule for {op!r};{near} `aiwq rules` lists all")
    write(rule_text(found, form, line_width()), output)
