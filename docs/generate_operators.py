"""Write docs/operators/*.md, one page per operator family, from the documentation of the rules themselves.

Run `python docs/generate_operators.py` after a rule has changed; a test keeps the pages and the rules in step.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from onnx_aiwq.operations.registry import Rule, all_rules, all_uncountable

FOLDER = Path(__file__).parent / "operators"
_HEADING = "<!-- written by docs/generate_operators.py from the rules' own documentation -->\n"


def pages() -> dict[str, str]:
    """File name -> content, with an index."""
    families: dict[str, list[Rule]] = defaultdict(list)
    for rule in all_rules():
        families[rule.family].append(rule)
    written = {f"{family}.md": _page(family, rules) for family, rules in sorted(families.items())}
    index = [_HEADING, "# Operators by family\n"]
    index += [f"- [{family}]({family}.md): {_names(rules)}" for family, rules in sorted(families.items())]
    index += ["", "# Operators that cannot be counted", "", "A report lists them as unsupported, with this reason."]
    index += ["A rule that you [register yourself](../own-rules.md) is used all the same.\n"]
    reasons: dict[str, list[str]] = defaultdict(list)
    for (domain, op_type), why in all_uncountable().items():
        reasons[why].append(f"{domain}.{op_type}" if domain else op_type)
    index += [f"- {', '.join(names)}: {why}" for why, names in sorted(reasons.items(), key=lambda item: item[1])]
    return {**written, "README.md": "\n".join(index) + "\n"}


def _names(rules: list[Rule]) -> str:
    return ", ".join(sorted({f"{rule.domain}.{rule.op_type}" if rule.domain else rule.op_type for rule in rules}))


def _page(family: str, rules: list[Rule]) -> str:
    """One section per documented rule; operators that share a rule share the section."""
    sections: dict[tuple[str, str], list[Rule]] = defaultdict(list)
    for rule in rules:
        sections[rule.documentation, rule.traffic].append(rule)
    parts = [_HEADING, f"# {family}\n"]
    for (documentation, traffic), members in sections.items():
        versions = sorted({f"{rule.domain or 'ai.onnx'} since {rule.since}" for rule in members})
        parts.append(f"## {_names(members)}\n")
        parts.append(f"*{'; '.join(versions)}; bytes: {traffic}*\n")
        parts.append(f"```text\n{documentation}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for stale in FOLDER.glob("*.md"):
        stale.unlink()
    for name, content in pages().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
