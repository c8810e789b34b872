"""The command line: each verb parses its options, calls one function, and prints the result.

Exit codes: 0 done; 1 an audit found problems that must be fixed by hand; 2 an error the user can
fix (one line on stderr); 130 Ctrl-C; 141 the reader of the output has gone; 143 SIGTERM.
Verbs import heavy modules when they run, so that `setmatch --help` needs no torch.
"""

import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import TextIO

from cyclopts import App, CycloptsError, Parameter

import setmatch
from setmatch.cli.ablate import ablate
from setmatch.cli.advice import advice_for
from setmatch.cli.audit import audit
from setmatch.cli.benchmark import benchmark
from setmatch.cli.compare import compare
from setmatch.cli.convert_data import convert_data
from setmatch.cli.convert_weights import convert_weights
from setmatch.cli.curves import curves
from setmatch.cli.demo import demo
from setmatch.cli.evaluate import evaluate
from setmatch.cli.explain import explain
from setmatch.cli.export import export
from setmatch.cli.grammar import by_place, exact
from setmatch.cli.list_models import models
from setmatch.cli.predict import predict
from setmatch.cli.push import push
from setmatch.cli.queries import queries
from setmatch.cli.serve import serve
from setmatch.cli.train import train
from setmatch.cli.tune import tune
from setmatch.errors import ConfigError, SetmatchError
from setmatch.interruption import is_interruption

app = App(
    name="setmatch",
    help="Train, evaluate and run detection transformers.",
    help_epilogue="`setmatch COMMAND --help` explains a command. Every command also takes "
    "--max-pixels N, which reads images of up to N pixels (default: 89478485); --debug, which "
    "shows the full traceback of an error; --import MODULE, which imports a module of yours "
    "that defines a model; --accept-license NAME, for weights that are not free for every use; and "
    "--trust FILE, for a .pt2 file, whose compiled code runs when it is loaded.",
    group_parameters="Options",
    default_parameter=Parameter(converter=exact),
    version=lambda: setmatch.__version__,
    result_action="return_none",
    suppress_keyboard_interrupt=False,
)
VERBS: tuple[Callable[..., None], ...] = (  # in the order in which they are used
    demo,
    audit,
    convert_data,
    models,
    train,
    curves,
    evaluate,
    compare,
    benchmark,
    predict,
    serve,
    export,
    push,
    explain,
    queries,
    convert_weights,
    ablate,
    tune,
)
app.register_install_completion_command(
    help="Let the shell (bash, zsh or fish) complete commands and options with the Tab key.",
    sort_key=len(VERBS),
)
for position, verb in enumerate(VERBS):
    app.command(verb, sort_key=position)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    logging.basicConfig(format="setmatch: %(message)s")
    warnings.showwarning = _warn
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file name need not be of the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in tokens
    try:
        tokens = _apply_common_options([word for word in tokens if word != "--debug"])
        tokens = by_place(app, tokens)
        app(tokens, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has gone; the interpreter's flush at exit must not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except (SetmatchError, CycloptsError, OSError) as error:
        if is_interruption(error):
            return _fail("interrupted", 130)
        if debug:
            raise
        return _fail(_one_line(error), error.exit_code if isinstance(error, SetmatchError) else 2)
    return 0


def _import_module(name: str) -> None:
    from setmatch.models.factory import import_module

    import_module(name)


def _accept_license(name: str) -> None:
    from setmatch.models.weights.terms import accept_terms

    accept_terms(name)


def _trust_file(path: str) -> None:
    from setmatch.inference.engines.torch_session import trust

    trust(path)


def _limit_pixels(limit: str) -> None:
    if not limit.isdecimal():
        raise ConfigError(f"--max-pixels {limit}: give a number of pixels, such as 200000000")
    from setmatch.data.images.decoding import limit_pixels

    limit_pixels(int(limit))


# What to do with each value of the options that every command takes, before it runs.
COMMON_OPTIONS: dict[str, Callable[[str], None]] = {
    "--import": _import_module,
    "--max-pixels": _limit_pixels,
    "--accept-license": _accept_license,
    "--trust": _trust_file,
}


def _apply_common_options(tokens: list[str]) -> list[str]:
    """Apply the options that every command takes, and return the other tokens."""
    rest: list[str] = []
    given: dict[str, list[str]] = {option: [] for option in COMMON_OPTIONS}
    remaining = iter(tokens)
    for token in remaining:
        name, equals, value = token.partition("=")
        if name in given:
            given[name].append(value if equals else next(remaining, ""))
        else:
            rest.append(token)
    for option, values in given.items():
        for value in values:
            COMMON_OPTIONS[option](value)
    return rest


_ROOM = "make room, or choose another disk, and give the same command again"
_ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: "choose another disk",
    errno.EACCES: "change its permissions, or choose another",
}


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        advice = _ADVICE.get(error.errno or 0, "")
        return f"{error.filename}: {error.strerror}{advice and f'; {advice}'}"
    if isinstance(error, CycloptsError) and (sentence := advice_for(app, error)) is not None:
        return sentence
    return " ".join(str(error).split())


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning in one line, without the place in the code."""
    if category.__name__ == "DecompressionBombWarning":
        return  # such an image is refused by its name when it is read
    print(f"setmatch: {' '.join(str(message).split())}", file=sys.stderr)


def _fail(message: str, code: int) -> int:
    print(f"setmatch: {message}", file=sys.stderr)
    return code
