"""The verdict as SARIF 2.1.0: a failed check is an error, one that could not be told apart a warning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from onnx_aiwq import __version__
from onnx_aiwq.quantities import METRICS
from onnx_aiwq.render.summary import plain

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_MAX_RESULTS = 5000  # GitHub shows no more
_KINDS = {"budget": "is over its budget", "regression": "has grown since the baseline"}
_LEVELS = {"failed": "error", "undecided": "warning"}


def render_sarif(verdict: Mapping[str, Any]) -> str:
    """Write a JSON verdict as SARIF; locations are the model file and, within it, the nodes that contribute most."""
    reported = [check for check in verdict["checks"] if check["status"] in _LEVELS]
    reported.sort(key=lambda check: check["status"] != "failed")
    rules = [{"metric": metric, "kind": kind} for metric in METRICS for kind in _KINDS]
    indices = {_rule_id(rule): index for index, rule in enumerate(rules)}
    driver = {
        "name": "aiwq",
        "semanticVersion": __version__,
        "rules": [_rule(rule) for rule in rules],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"SRCROOT": {"description": {"text": "The folder in which aiwq ran."}}},
        "artifacts": [{"location": _artifact(path)} for path in dict.fromkeys(check["model"] for check in reported)],
        "results": [_result(check, indices[_rule_id(check)]) for check in reported[:_MAX_RESULTS]],
    }
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, allow_nan=False) + "\n"


def _rule_id(rule: Mapping[str, Any]) -> str:
    return f"{rule['metric']}-{rule['kind']}"


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    metric = METRICS[rule["metric"]]
    words = metric.name.replace("_", " ")
    unit = f" (in {metric.unit})" if metric.unit else ""
    happened = _KINDS[rule["kind"]]
    return {
        "id": _rule_id(rule),
        "name": "".join(word.capitalize() for word in f"{words} {rule['kind']}".split()),
        "shortDescription": {"text": f"{words} {happened}"},
        "fullDescription": {"text": f"The {words}{unit} of a model, predicted without running it, {happened}."},
        "help": {"text": "`aiwq analyze MODEL` shows the operators that it comes from."},
        "defaultConfiguration": {"level": "error"},
    }


def _result(check: Mapping[str, Any], rule_index: int) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": _artifact(check["model"]), "region": {"startLine": 1}}
    }
    nodes = [
        {
            "name": plain(each["node"]),
            "fullyQualifiedName": plain(f"{each['scope']}/{each['node']}" if each["scope"] else each["node"]),
            "kind": "node",
            "properties": {"op_type": plain(each["op_type"]), "share": each["share"], "value": each["value"]},
        }
        for each in check["contributors"]
    ]
    if nodes:
        location["logicalLocations"] = nodes
    identity = "\0".join((check["model"], check["hardware"], check["name"]))
    return {
        "ruleId": _rule_id(check),
        "ruleIndex": rule_index,
        "level": _LEVELS[check["status"]],
        "message": {
            "text": f"{plain(check['model'])} on {plain(check['hardware'])}: {check['name']}: {check['reason']}"
        },
        "locations": [location],
        "partialFingerprints": {"aiwqCheck/v1": hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()},
        "properties": {key: check[key] for key in ("limit", "value", "low", "high", "unit", "baseline", "tolerance")},
    }


def _artifact(path: str) -> dict[str, str]:
    """A URI: relative to the root of the sources, or of the file system for what lies outside."""
    pure = PurePath(path)
    if pure.is_absolute() or ".." in pure.parts:
        return {"uri": Path(path).absolute().as_uri()}
    return {"uri": quote(pure.as_posix()), "uriBaseId": "SRCROOT"}
