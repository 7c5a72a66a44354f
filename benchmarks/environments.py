"""One virtual environment per tool, below `.venv-benchmarks/` in the repository; standard library only."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

from measuring import report_progress

REPOSITORY = Path(__file__).resolve().parents[1]
ENVIRONMENTS = REPOSITORY / ".venv-benchmarks"

PEERS = {"onnx-tool": "onnx-tool==1.0.1", "onnxsim": "onnxsim==0.8.1", "onnx": "onnx"}
"""Tool -> what pip installs."""


def peer_python(name: str) -> Path:
    """Return the interpreter of a peer's environment, which is made where it is not there yet.

    Raises RuntimeError with pip's last line when the installation fails.
    """
    return _environment(name, PEERS[name])


def aiwq_command() -> Path:
    """Return the `aiwq` of an environment that holds this working tree as a wheel would: installed, not linked."""
    python = _environment("aiwq", None)
    report_progress("environment aiwq: installing the working tree")
    _pip(python, "install", "--upgrade", str(REPOSITORY))
    _pip(python, "install", "--force-reinstall", "--no-deps", str(REPOSITORY))
    return python.with_name("aiwq")


def versions(python: Path, distributions: list[str]) -> dict[str, str]:
    """Return the version of each distribution in the environment of an interpreter."""
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    command = [str(python), "-c", code, *distributions]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return dict(zip(distributions, found, strict=True))


def _environment(name: str, requirement: str | None) -> Path:
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    made = folder / "made-for.txt"
    wanted = requirement or name
    if not made.exists() or made.read_text(encoding="utf-8") != wanted:
        report_progress(f"environment {name}: creating")
        venv.create(folder, clear=True, with_pip=True)
        if requirement is not None:
            _pip(python, "install", requirement)
        made.write_text(wanted, encoding="utf-8")
    return python


def _pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
        raise RuntimeError(f"pip {' '.join(arguments)}: {lines[-1]}")
