"""Files that run code when a careless reader opens them: each writes the file `exploded`."""

import argparse
import builtins
import codecs
import collections
import functools
import importlib
import io
import marshal
import operator
import os
import pathlib
import pickle
import shutil
import subprocess
import timeit
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

EXPLODED = "exploded"
CODE = f"open({EXPLODED!r}, 'w').close()"


class Call:
    """Unpickles as the result of a call; `state` is set on it."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self._reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self._reduced

    def __call__(self) -> None:
        """Look like a function to pickle, which asks for one."""


def _opcodes(text: str) -> bytes:
    return text.replace("CODE", CODE).encode()


def _legacy(tree: Any) -> bytes:
    file = io.BytesIO()
    torch.save(tree, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


EXPLODES = Call(exec, CODE)
_COMPILED = marshal.dumps(compile(CODE, "code", "exec"))
_OS = Call(importlib.import_module, "os")
OBJECTS: Mapping[str, Any] = {
    "system": Call(os.system, f"touch {EXPLODED}"),
    "subprocess": Call(subprocess.call, ["touch", EXPLODED]),
    "eval": Call(eval, CODE),
    "exec": EXPLODES,
    "open": Call(open, EXPLODED, "w"),
    "touch": Call(pathlib.Path.touch, Path(EXPLODED)),
    "copy": Call(shutil.copy, __file__, EXPLODED),
    "io": Call(io.FileIO, EXPLODED, "w"),
    "codecs": Call(codecs.open, EXPLODED, "w"),
    "numpy": Call(np.ndarray.tofile, np.zeros(1), EXPLODED),
    "torch_save": Call(torch.save, 1, EXPLODED),
    "timeit": Call(timeit.timeit, CODE, "pass", timeit.default_timer, 1),
    "partial": Call(Call(functools.partial, exec, CODE)),
    "getattr": Call(Call(getattr, _OS, "system"), f"touch {EXPLODED}"),
    "attribute": Call(Call(operator.attrgetter("system"), _OS), f"touch {EXPLODED}"),
    "method": Call(operator.methodcaller("touch"), Path(EXPLODED)),
    "map": Call(list, Call(map, exec, [CODE])),
    "marshal": Call(exec, Call(marshal.loads, _COMPILED)),
    "nested": Call(pickle.loads, pickle.dumps(EXPLODES)),
    "legacy_storage": Call(torch.storage._load_from_bytes, _legacy(EXPLODES)),
    "namespace": Call(argparse.Namespace, state={"x": EXPLODES}),
    "ordered": Call(collections.OrderedDict, state={"x": EXPLODES}),
    "rebuilt": Call(torch._utils._rebuild_parameter, EXPLODES, False, None),
    "key": {Call(builtins.exec, CODE): 1},
}
OPCODES: Mapping[str, bytes] = {
    "global_opcode": _opcodes('c__builtin__\nexec\n(S"CODE"\ntR'),
    "builtins_opcode": _opcodes('cbuiltins\nexec\n(S"CODE"\ntR'),
    "inst_opcode": _opcodes('(S"CODE"\ni__builtin__\nexec\n'),
    "obj_opcode": _opcodes('(c__builtin__\nexec\nS"CODE"\no'),
    "memo_opcodes": _opcodes('c__builtin__\nexec\np99\n0g99\n(S"CODE"\ntR'),
    "stack_opcode": _opcodes('\x8c\x08builtins\x8c\x04exec\x93(S"CODE"\ntR')
    .replace("\x8c".encode(), b"\x8c")
    .replace("\x93".encode(), b"\x93"),
}
KINDS = (*OBJECTS, *OPCODES)
FORMATS = ("zip", "legacy", "pickle")
_PLACE = "HERE_IT_COMES"
_PLACE_OPCODES = b"X" + len(_PLACE).to_bytes(4, "little") + _PLACE.encode()


def hostile(kind: str) -> Any:
    """Return what stands for the code in a tree that `write` writes."""
    return OBJECTS.get(kind, _PLACE)


def write(path: Path, tree: Any, kind: str, format: str) -> None:
    """Write a tree that has `hostile(kind)` somewhere, as torch or pickle would."""
    if format == "pickle":
        path.write_bytes(pickle.dumps(tree, protocol=2))
    else:
        torch.save(tree, path, _use_new_zipfile_serialization=format == "zip")
    if kind in OBJECTS:
        return
    if format != "zip":
        path.write_bytes(_with_opcodes(path.read_bytes(), kind))
        return
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            is_pickle = name.endswith("data.pkl")
            archive.writestr(name, _with_opcodes(data, kind) if is_pickle else data)


def _with_opcodes(data: bytes, kind: str) -> bytes:
    assert data.count(_PLACE_OPCODES) == 1
    return data.replace(_PLACE_OPCODES, OPCODES[kind])
