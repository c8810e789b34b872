"""Advice for a command line that cannot be understood: one sentence on what to write instead."""

from collections.abc import Mapping, Sequence
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownOptionError,
)
from cyclopts.exceptions import UnknownCommandError, UnusedCliTokensError

from setmatch.errors import suggest

if TYPE_CHECKING:
    from cyclopts import Argument, ArgumentCollection

# Commands and options of other programs, and what does the same here.
COMMANDS = {
    "val": "evaluate",
    "valid": "evaluate",
    "validate": "evaluate",
    "test": "evaluate",
    "eval": "evaluate",
    "detect": "predict",
    "infer": "predict",
    "inference": "predict",
    "segment": "predict",
    "track": "predict",
    "fit": "train",
    "finetune": "train",
    "fine-tune": "train",
    "resume": "train",
    "check": "audit",
    "info": "audit",
    "list": "models",
    "plot": "curves",
    "convert": "convert-data",
    "upload": "push",
    "bench": "benchmark",
}
_RESULTS = "results are always written, and never shown in a window"
OPTIONS: Mapping[str, tuple[str, ...]] = {  # the first that the command has is named
    "conf": ("--threshold",),
    "confidence": ("--threshold",),
    "score": ("--threshold",),
    "conf-thres": ("--threshold",),
    "batch": ("--batch-size", "--set train.batch_size=..."),
    "output": ("--out",),
    "output-dir": ("--out",),
    "save-dir": ("--out",),
    "project": ("--out",),
    "name": ("--out",),
    "half": ("--half",),
    "cfg": ("--recipe", "--model"),
    "config": ("--recipe", "--model"),
    "iterations": ("--trials",),
    "format": ("--to",),
    "html": ("--report", "--out"),
    "report": ("--html", "--out"),
    "vid-stride": ("--every",),
    "imgsz": ("--size", "--set data.short_side_px=..."),
    "img-size": ("--size", "--set data.short_side_px=..."),
    "lr0": ("--set train.lr=...",),
    "pretrained": ("--weights",),
}
SENTENCES = {
    "iou": "these models need no NMS, so there is no IoU threshold",
    "nms": "these models need no NMS",
    "max-det": "a model detects at most as many objects as it has queries",
    "imgsz": "a trained model stores the image size it was trained for",
    "img-size": "a trained model stores the image size it was trained for",
    "save": _RESULTS,
    "save-txt": _RESULTS,
    "save-json": _RESULTS,
    "show": _RESULTS,
    "verbose": "--debug shows the full traceback of an error",
}
_KINDS = {int: "a whole number", float: "a number", bool: "yes or no"}


def advice_for(app: App, error: CycloptsError) -> str | None:
    """Return what a command line that cannot be understood lacks; None if cyclopts says it well."""
    verb = (error.command_chain or [""])[0]
    unused = error.unused_tokens or [""]
    if isinstance(error, UnknownCommandError):
        known = [name for name in app if not name.startswith("-")]
        other = COMMANDS.get(unused[0])
        advice = f"did you mean {other}?" if other else suggest(unused[0], known)
        return f"{unused[0]}: no such command; {advice}"
    if not verb:
        return None
    arguments = app[verb].assemble_argument_collection(parse_docstring=True)
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name = error.argument.name
        given = error.keyword or any(token.keyword for token in error.argument.tokens)
        lacks = "needs a value" if given else "is missing"
        its = next(each for each in arguments if each.name == name)
        return missing(verb, its, f"{name} {lacks}")
    if isinstance(error, UnknownOptionError):
        return unknown_option(verb, arguments, error.token.keyword or error.token.value)
    if isinstance(error, CoercionError) and error.token is not None and error.token.keyword:
        wanted = _wanted(error.target_type)
        return wanted and f"{error.token.keyword} {error.token.value}: give {wanted}"
    if isinstance(error, RepeatArgumentError):
        return f"{verb}: {error.token.keyword} is given twice; give it once"
    if isinstance(error, UnusedCliTokensError):
        return _too_much(verb, arguments, error.root_input_tokens or [], unused[0])
    return None


def missing(verb: str, argument: "Argument", what: str) -> str:
    """Return what a command lacks, with the meaning of the argument."""
    meaning = " ".join((argument.parameter.help or "").split())
    return f"{verb}: {what}: {meaning} (see setmatch {verb} --help)"


def unknown_option(verb: str, arguments: "ArgumentCollection", given: str) -> str:
    """Return what an unknown option may be: one of another name, a recipe setting, a typo."""
    word = given.partition("=")[0]
    name = word.lstrip("-").replace("_", "-").lower()
    names = [each for argument in arguments for each in argument.names if each.startswith("--")]
    setting = _setting(name) if "--set" in names else None
    others = [other for other in OPTIONS.get(name, ()) if other.split()[0] in names]
    if others:
        advice = f"here it is {others[0]}"
    elif setting:
        advice = f"it is a recipe setting: --set {setting}=..."
    elif name in SENTENCES:
        advice = SENTENCES[name]
    else:
        advice = suggest(f"--{name}", names, f"see setmatch {verb} --help")
    return f"{verb}: {word}: no such option; {advice}"


def _wanted(kind: Any) -> str | None:
    """Return what values of a type are called; None for one that has no such words."""
    words: list[str] = []
    for part in get_args(kind) if get_origin(kind) in (UnionType, Union, tuple) else (kind,):
        if get_origin(part) is Literal:
            words += map(str, get_args(part))
        elif part in _KINDS:
            words.append(_KINDS[part])
    is_choice = get_origin(kind) is Literal  # of which cyclopts says the nearest
    return None if is_choice or not words else " or ".join(words)


def _setting(name: str) -> str | None:
    """Return the recipe setting of this name, such as train.lr for lr."""
    from setmatch.config import DataSettings, ModelSettings, Section, TrainSettings

    sections: dict[str, type[Section]] = {
        "train": TrainSettings,
        "data": DataSettings,
        "model": ModelSettings,
    }
    key = name.replace("-", "_")
    found = (f"{section}.{key}" for section, its in sections.items() if key in its.model_fields)
    return next(found, None)


def _too_much(verb: str, arguments: "ArgumentCollection", tokens: Sequence[str], word: str) -> str:
    switches = {name for each in arguments if each.hint is bool for name in each.names}
    before = tokens[tokens.index(word) - 1] if word in tokens else ""
    if before in switches:
        return f"{verb}: {before} takes no value, but {word!r} follows it"
    taken = " ".join(each.name for each in arguments if each.index is not None) or "no arguments"
    return f"{verb}: {word!r} is one too many; it takes {taken} (see setmatch {verb} --help)"
