"""The command `aiwq`: stdout carries the result and nothing else, exit codes are 0, 1 and 2."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import sys
import threading
import warnings
from typing import Annotated, NoReturn

import typer

from onnx_aiwq.cli.commands import Commands
from onnx_aiwq.cli.deferred import defer_imports
from onnx_aiwq.cli.streams import say, write
from onnx_aiwq.errors import AiwqError

app = typer.Typer(
    name="aiwq",
    cls=Commands,
    help="What an ONNX model costs before it is deployed: operations, energy, eCAL and CO2.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> NoReturn:
    """Run the command line; what prevents an answer is one line on stderr and exit code 2, never a traceback."""
    # A graph is many small objects that live until the end: looking for garbage among them costs a third of the time,
    # so each is looked at once, while it is young.
    gc.set_threshold(200_000, 100, 100)
    atexit.register(gc.freeze)  # nor need the interpreter look through all of it as it ends
    defer_imports()
    if not os.environ.get("AIWQ_DEBUG"):
        warnings.simplefilter("ignore")  # of numpy and other libraries about a model's odd numbers
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character still gets the rest of the line
    try:
        code = app(standalone_mode=False)
    except SystemExit as error:
        # Typer ends with 1 when the reader of its help has gone, which would read as the gate's verdict.
        sys.exit(0 if isinstance(error.__context__, BrokenPipeError) else error.code)
    except AiwqError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted")
    except MemoryError:
        _fail("the memory does not suffice; use a machine with more of it, or a larger --max-memory where one is set")
    except Exception as error:
        _fail_otherwise(error)
    sys.exit(code if isinstance(code, int) else 0)


def run() -> NoReturn:
    """`main`, as the installed command: the process ends at once, without taking apart what it holds.

    That would be a twentieth of the analysis of a small model.
    """
    try:
        main()
    except SystemExit as ended:
        if isinstance(ended.code, int) and not _is_followed():
            with contextlib.suppress(OSError, ValueError):  # whoever read it has gone, which Python says as it ends
                for stream in (sys.stdout, sys.stderr):
                    if stream is not None:  # closed by the caller
                        stream.flush()
                os._exit(ended.code)
        raise


def _is_followed() -> bool:
    """Whether something waits for Python to end: threads that are not done, or whatever ends child processes."""
    return "multiprocessing" in sys.modules or any(not thread.daemon for thread in threading.enumerate()[1:])


def _fail(message: str) -> NoReturn:
    if os.environ.get("AIWQ_DEBUG"):
        import traceback

        traceback.print_exc()
    else:
        say(message)
    sys.exit(2)


def _fail_otherwise(error: Exception) -> NoReturn:
    # Typer brings a click of its own, whose exceptions are known by their methods: Exit has a code, usage errors also
    # know their message.
    message = getattr(error, "format_message", None)
    if message is not None:
        _fail(f"{message().rstrip('.')}; `aiwq --help` lists commands and options")
    if hasattr(error, "exit_code"):
        sys.exit(error.exit_code)
    _fail(
        f"unexpected {type(error).__name__}: {error}; this is a bug of aiwq: run again with AIWQ_DEBUG=1 and report "
        "the traceback"
    )


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from onnx_aiwq import __version__

        write(f"aiwq {__version__}\n", None)
    elif context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)
