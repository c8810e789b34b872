"""Libraries send no reports about their use: they are imported with their switch set."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from setmatch.bulk.on_ray import compute_on_ray
from setmatch.bulk.parts import Part
from setmatch.bulk.predictor import Predictor
from setmatch.deploy.export import FORMATS
from setmatch.deploy.precision.int8_openvino import nncf_library
from setmatch.errors import ExtraMissingError
from setmatch.inference.engines.onnx_session import onnxruntime_library
from setmatch.training.trackers import make_callbacks
from setmatch.usage_reports import SWITCHES


def _start_ray() -> None:
    part = Part(Path("part.parquet"), ["a.jpg"])
    list(compute_on_ray(Predictor("scenes_n"), [part], lambda done: None))


USERS: list[tuple[str, Callable[[], object]]] = [
    ("mlflow", lambda: make_callbacks(["mlflow"])),
    ("nncf", nncf_library),
    ("onnxruntime", lambda: onnxruntime_library("this")),
    ("onnxruntime", next(each for each in FORMATS if each.name == "onnx").require_libraries),
    ("ray", _start_ray),
    ("trackio", lambda: make_callbacks(["trackio"])),
    ("wandb", lambda: make_callbacks(["wandb"])),
]


def test_every_library_with_a_switch_is_tested():
    assert {library for library, _ in USERS} == set(SWITCHES)


@pytest.mark.parametrize("chosen", [None, "as the user says"])
@pytest.mark.parametrize(
    ("library", "use"), USERS, ids=[f"{name}{number}" for number, (name, _) in enumerate(USERS)]
)
def test_a_library_is_imported_with_its_reports_off(
    monkeypatch: pytest.MonkeyPatch, library: str, use: Callable[[], object], chosen: str | None
):
    variable, off = SWITCHES[library]
    monkeypatch.setenv(variable, "")  # so that it is restored
    monkeypatch.delenv(variable)
    if chosen is not None:
        monkeypatch.setenv(variable, chosen)
    seen: list[str | None] = []
    for name in [each for each in sys.modules if each.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Recorder(library, variable, seen), *sys.meta_path])
    with pytest.raises(ExtraMissingError):
        use()
    assert seen[0] == (chosen or off)


class _Recorder:
    """Notes the switch when a library is about to be imported, and says that there is none."""

    def __init__(self, library: str, variable: str, seen: list[str | None]) -> None:
        self._library, self._variable, self._seen = library, variable, seen

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> None:
        if name.split(".")[0] == self._library:
            self._seen.append(os.environ.get(self._variable))
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
