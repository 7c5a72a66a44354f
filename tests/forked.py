"""Run `aiwq` on many files, each in a child of its own with limits, and tell what each run did.

`python tests/forked.py SECONDS CPU_SECONDS BYTES` reads JSON lines of {"name", "arguments"} and writes JSON lines with
the exit code or signal, seconds, CPU seconds, peak bytes, stdout and stderr. The package is imported once. A line may
have "folder", where the command runs, and "environment", what is added to that of this program.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def _run(job: dict[str, Any], seconds: int, cpu_seconds: int, limit_bytes: int, folder: Path) -> dict[str, Any]:
    files = {1: folder / "stdout", 2: folder / "stderr"}
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number, path in files.items():
                os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), number)
            os.chdir(job.get("folder", "."))
            os.environ.update(job.get("environment", {}))
            resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            faulthandler.dump_traceback_later(seconds, exit=True)  # tells where it hangs
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
            sys.argv = ["aiwq", *job["arguments"]]
            from onnx_aiwq.cli import main

            main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        finally:
            os._exit(99)
    _, status, usage = os.wait4(child, 0)
    return {
        "exit": os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else None,
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        "seconds": time.monotonic() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
        "stdout": files[1].read_bytes().decode("utf-8", "backslashreplace"),
        "stderr": files[2].read_bytes().decode("utf-8", "backslashreplace"),
    }


def _warm_up() -> None:
    """Do once what each command would do by itself: modules and templates that are loaded when they are first used."""
    from onnx import parser

    from onnx_aiwq import analyze
    from onnx_aiwq.render import render
    from onnx_aiwq.render.html import render_report_html

    text = '<ir_version: 10, opset_import: ["": 21]> g (float[n, 2] x) => (float[n, 2] y) { y = Relu(x) }'
    document = analyze(parser.parse_model(text)).to_dict()
    render_report_html(document)
    for form in ("table", "csv", "markdown", "json"):
        render(document, form)


def main() -> None:
    import onnx_shape_inference
    from onnx.reference import ReferenceEvaluator

    from onnx_aiwq import cli, render, report
    from onnx_aiwq.operations.registry import load_rules

    assert all((onnx_shape_inference, ReferenceEvaluator, cli, render, report))
    load_rules()
    _warm_up()
    seconds, cpu_seconds, limit_bytes = map(int, sys.argv[1:4])
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            job = json.loads(line)
            result = _run(job, seconds, cpu_seconds, limit_bytes, Path(folder))
            print(json.dumps({"name": job["name"], **result}), flush=True)


if __name__ == "__main__":
    main()
