"""The command line: one verb per capability, options written by hand, no logic.

Exit codes: 0 done, 1 a survey found what must be mended by hand, 2 a mistake the user can mend (one
line on stderr), 130 Ctrl-C, 143 SIGTERM.
Heavy modules are imported inside the verbs, so that `setmatch --help` needs no torch.
"""

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from cyclopts import App, CycloptsError, MissingArgumentError

import setmatch
from setmatch.cli.ablate import ablate
from setmatch.cli.audit import audit
from setmatch.cli.compare import compare
from setmatch.cli.convert_data import convert_data
from setmatch.cli.convert_weights import convert_weights
from setmatch.cli.curves import curves
from setmatch.cli.demo import demo
from setmatch.cli.evaluate import evaluate
from setmatch.cli.explain import explain
from setmatch.cli.list_models import models
from setmatch.cli.predict import predict
from setmatch.cli.queries import queries
from setmatch.cli.train import train
from setmatch.errors import SetmatchError

app = App(
    name="setmatch",
    help="Detection transformers: train, evaluate, predict.",
    help_epilogue="Any verb takes --debug, which shows the traceback of an error.",
    version=lambda: setmatch.__version__,
    result_action="return_none",
    suppress_keyboard_interrupt=False,
)
for verb in (
    train,
    evaluate,
    predict,
    convert_weights,
    demo,
    models,
    audit,
    convert_data,
    explain,
    queries,
    curves,
    compare,
    ablate,
):
    app.command(verb)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    logging.basicConfig(format="setmatch: %(message)s")
    warnings.showwarning = _warn
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in tokens
    try:
        app([t for t in tokens if t != "--debug"], exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except (SetmatchError, CycloptsError, OSError) as error:
        if debug:
            raise
        return _fail(_sentence(error), error.exit_code if isinstance(error, SetmatchError) else 2)
    return 0


def _sentence(error: Exception) -> str:
    """Say in one line what an error says."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MissingArgumentError) and error.command_chain:
        return _what_is_missing(error.command_chain[0], error)
    return " ".join(str(error).split())


def _what_is_missing(verb: str, error: MissingArgumentError) -> str:
    """Say which word a command line lacks, what it would be, and where the others are told."""
    missing = error.argument
    assert missing is not None, "cyclopts says which it is"
    told = app[verb].assemble_argument_collection(parse_docstring=True)
    meaning = next(each.parameter.help for each in told if each.name == missing.name)
    given = error.keyword or any(token.keyword for token in missing.tokens)
    lacks = "lacks its value" if given else "is missing"
    return f"{verb}: {missing.name} {lacks}: {meaning} (setmatch {verb} --help tells all)"


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Say a warning in one line, without the place in the code, which means nothing to a user."""
    print(f"setmatch: {' '.join(str(message).split())}", file=sys.stderr)


def _fail(message: str, code: int) -> int:
    print(f"setmatch: {message}", file=sys.stderr)
    return code
