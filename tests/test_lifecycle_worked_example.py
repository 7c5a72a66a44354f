"""The worked example of the docs does what it shows; the metrics' pages show commands and links that exist.

Run as a script, it writes the outputs of ``docs/worked-example.md`` anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from test_package import commands_in, links_in, problem_of

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "worked-example.md"
PAGES = ("ecal", "aiwq", "carbon", "worked-example")
AIWQ = shutil.which("aiwq", path=str(Path(sys.executable).parent)) or shutil.which("aiwq") or "aiwq"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n", flags=re.MULTILINE | re.DOTALL)


def executed(page: str, folder: Path) -> str:
    """The page with the outputs that its commands have now; files that it shows are written to the folder first."""
    (folder / "models").symlink_to(ROOT / "models")
    home = folder / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "XDG_DATA_HOME": str(home), "LC_ALL": "C.UTF-8"}
    environment["PATH"] = f"{Path(AIWQ).parent}{os.pathsep}{environment['PATH']}"

    def block(match: re.Match[str]) -> str:
        kind, text = match.groups()
        if kind == "toml":
            name = re.match(r"# (\S+\.toml)\n", text)
            assert name is not None, "a file without its name in the first line"
            (folder / name.group(1)).write_text(text, encoding="utf-8")
            return match.group(0)
        commands = re.findall(r"^\$ (.*)$", text, flags=re.MULTILINE)
        shown = []
        for command in commands:
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=folder,
                env=environment,
                capture_output=True,
                encoding="utf-8",
                timeout=300,
            )
            assert done.returncode == 0, (command, done.stderr)
            shown.append(f"$ {command}\n{done.stdout}")
        return f"```{kind}\n{''.join(shown)}```\n"

    return _BLOCK.sub(block, page)


def test_the_worked_example_shows_what_its_commands_print(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert len(re.findall(r"^\$ ", page, flags=re.MULTILINE)) >= 8
    found = executed(page, tmp_path)
    for now, shown in zip(found.splitlines(), page.splitlines(), strict=False):
        assert now == shown
    assert found == page


@pytest.mark.parametrize("name", PAGES)
def test_pages_show_commands_that_parse_and_links_that_lead_somewhere(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    plain = re.sub(r"^\$ (for|\(|sed).*$", "", text, flags=re.MULTILINE)
    commands = list(commands_in(plain))
    assert commands
    assert {" ".join(command): problem for command in commands if (problem := problem_of(command))} == {}
    assert [target for target in links_in(text) if not (ROOT / "docs" / target).exists()] == []


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        PAGE.write_text(executed(PAGE.read_text(encoding="utf-8"), Path(scratch)), encoding="utf-8")
