"""Shell completion, in bash itself: the script that the command prints completes commands, options and values."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

AIWQ = shutil.which("aiwq", path=str(Path(sys.executable).parent)) or shutil.which("aiwq") or "aiwq"
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash: its completion is what is tested")

# What bash does when Tab is pressed behind the last word: it calls the function that was registered for the command.
PRESS_TAB = """
. "$script"
COMP_WORDS=({words})
COMP_CWORD={last}
completion=$(complete -p aiwq | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$completion" aiwq
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has bash evaluate."""
    path = tmp_path_factory.mktemp("completion") / "aiwq.bash"
    path.write_text(shown("bash"), encoding="utf-8")
    return path


def shown(shell: str) -> str:
    done = subprocess.run(
        [AIWQ, "--show-completion", shell],
        # The shell is named, not guessed from the processes around the test.
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def completed(script: Path, *words: str) -> list[str]:
    """What bash offers for the last word; an empty one is written as ''."""
    quoted = " ".join(f"'{word}'" for word in ("aiwq", *words))
    done = subprocess.run(
        ["bash", "--norc", "-c", PRESS_TAB.format(words=quoted, last=len(words))],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIWQ_", "_AIWQ"))},
            "PATH": f"{Path(AIWQ).parent}:{os.environ['PATH']}",
            "script": str(script),
        },
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("an",), {"analyze"}),
        (("analyze", "m.onnx", "--hardw"), {"--hardware"}),
        (("analyze", "m.onnx", "--hardware", "reference"), {"reference-cpu"}),
        (("compare", "m.onnx", "--hardware", "nvidia-l4"), {"nvidia-l4", "nvidia-l40s"}),
        (("gate", "m.onnx", "--region", "DE"), {"DEU"}),
        (("analyze", "m.onnx", "--format", "h"), {"html"}),
        (("analyze", "m.onnx", "--by", "s"), {"scope"}),
        (("rules", "LayerN"), {"LayerNormalization"}),
        (("analyze", "m.onnx", "--hardware", "no-such"), set()),
    ],
)
def test_bash_completes(script: Path, words: tuple[str, ...], offered: set[str]) -> None:
    found = set(completed(script, *words))
    assert offered <= found
    assert all(word.startswith(words[-1]) for word in found)
    assert bool(found) == bool(offered)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script(shell: str) -> None:
    text = shown(shell)
    assert "_AIWQ_COMPLETE" in text
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=text, check=True, encoding="utf-8", timeout=60)


def test_installing_writes_to_the_home_of_the_user(tmp_path: Path) -> None:
    done = subprocess.run(
        [AIWQ, "--install-completion", "bash"],
        env={**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("_AIWQ_COMPLETE" in path.read_text(encoding="utf-8") for path in written)
