#!/usr/bin/env bash
# Build the wheel, install it into a fresh environment with the test tools, and run every check against it.
# Usage: ./test.sh [pytest arguments]     PYTHON=python3.12 ./test.sh     to choose the interpreter.
set -euo pipefail
cd "$(dirname "$0")"
environment=.venv-test
rm -rf "$environment" build dist
"${PYTHON:-python3}" -m venv "$environment"
bin="$environment/bin"
export PIP_DISABLE_PIP_VERSION_CHECK=1
# Hundreds of processes import the package: the first one that does compiles it for all.
unset PYTHONDONTWRITEBYTECODE
"$bin/python" -m pip wheel --quiet --no-deps --wheel-dir dist .
# Most modules of what is installed are never imported; those that are get compiled then.
"$bin/python" -m pip install --quiet --no-compile "$(ls dist/*.whl)[test]"

step() { echo "== $1 (after $SECONDS s)"; }

# Tests of HTML pages need a browser; without one they are skipped and say so.
if ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    step chromium; { apt-get update && apt-get install -y --no-install-recommends chromium chromium-driver; } >/dev/null 2>&1 \
        || echo "chromium could not be installed"
fi

step ruff;               "$bin/ruff" check . && "$bin/ruff" format --check .
step mypy;               "$bin/mypy"
step "import contracts"; "$bin/lint-imports" --no-cache | tail -n 8
# The tests import the installed wheel: `pythonpath` holds tests/ alone, and `pytest` does not put this folder on the path.
step tests;              AIWQ_EXPECT_WHEEL=1 "$bin/pytest" -n 2 --dist worksteal --durations=15 "$@"
contract=../shared/checks/contract.py
if [ -f "$contract" ]; then
    step contract;       "$bin/python" "$contract" "$bin/aiwq"
fi
