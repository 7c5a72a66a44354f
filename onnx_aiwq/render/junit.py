"""The verdict as JUnit XML: one suite per model, one case per check."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

from onnx_aiwq.render.summary import plain


def render_junit(verdict: Mapping[str, Any]) -> str:
    """Write a JSON verdict as JUnit XML; what could not be told apart passes, with a note in `system-out`."""
    checks = verdict["checks"]
    root = ET.Element("testsuites", _totals("aiwq gate", checks))
    for model in verdict["models"]:
        own = [check for check in checks if check["model"] == model["path"]]
        suite = ET.SubElement(root, "testsuite", _totals(plain(model["path"]), own))
        properties = ET.SubElement(suite, "properties")
        for name in ("hardware", "source", "interval", "convention", "level", "region", "graph_sha256"):
            ET.SubElement(properties, "property", name=name, value=plain(model[name]))
        for check in own:
            case = ET.SubElement(
                suite,
                "testcase",
                classname=plain(f"{model['path']} on {check['hardware']}"),
                name=plain(check["name"]),
                time="0",
            )
            _outcome(case, check)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _totals(name: str, checks: list[Mapping[str, Any]]) -> dict[str, str]:
    failures = sum(check["status"] == "failed" for check in checks)
    return {"name": name, "tests": str(len(checks)), "failures": str(failures), "errors": "0", "time": "0"}


def _outcome(case: ET.Element, check: Mapping[str, Any]) -> None:
    if check["status"] == "failed":
        failure = ET.SubElement(case, "failure", message=plain(check["reason"]), type=check["kind"])
        nodes = [
            f"{each['share']:.0%} {plain(each['op_type'])} {plain(each['node'])}" for each in check["contributors"]
        ]
        failure.text = "\n".join([plain(check["reason"]), f"limit set by {plain(check['origin'])}", *nodes])
    elif check["status"] == "undecided":
        ET.SubElement(case, "system-out").text = plain(check["reason"])
