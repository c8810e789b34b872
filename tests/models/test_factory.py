"""No file chooses which code runs: a model outside of setmatch loads once the user imported it."""

import json
import sys
from pathlib import Path

import pytest

import setmatch as sm
from setmatch.cli import main
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import ConfigError, SetmatchError
from setmatch.models.factory import import_named
from setmatch.models.load import read, save
from setmatch.models.registry import build
from setmatch.recipe_text import load_recipe
from setmatch.structures.metadata import Categories, ModelCard

CODE = """
from pathlib import Path
from setmatch.models.detector import Detector
from setmatch.models.detr.config import DetrShape
from setmatch.models.detr.presets import detr_nano

Path(__file__).with_name("it_ran").touch()
SHAPE = DetrShape(num_queries=5, dim=32, heads=2, encoder_layers=1, decoder_layers=1, ffn_dim=32)


def tiny(num_classes: int, shape: DetrShape = SHAPE) -> Detector:
    return detr_nano(num_classes, shape)


def untyped(num_classes):
    return detr_nano(num_classes)
"""
PETS = Categories((0, 1), ("cat", "dog"))
FAST = ("train.batch_size=4", "data.workers=0", "data.short_side_px=64", "data.long_side_px=64")


class Foreign:
    """A folder of someone else's: weights whose card names the module that lies beside them."""

    def __init__(self, folder: Path, module: str) -> None:
        self.module, self.name = module, f"{module}:tiny"
        self.ran = folder / "it_ran"
        (folder / f"{module}.py").write_text(CODE)
        self.weights = folder / "weights"
        shape = {"num_queries": 5, "dim": 32, "heads": 2}
        shape |= {"encoder_layers": 1, "decoder_layers": 1, "ffn_dim": 32}
        save(build(ModelCard("detr_nano", shape, PETS)), self.weights)
        card = self.weights / "model.json"
        card.write_text(card.read_text().replace("detr_nano", self.name))


@pytest.fixture
def foreign(tmp_path, monkeypatch, request):
    module = f"foreign_{request.node.name.partition('[')[0]}"
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Foreign(tmp_path, module)
    sys.modules.pop(module, None)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 4, 2, 64, seed=0, workers=0)
    return folder


def test_weights_that_name_code_beside_them_load_once_the_user_imported_it(foreign):
    with pytest.raises(SetmatchError, match=f"--import {foreign.module} \\(command line\\)"):
        sm.load(foreign.weights)
    assert not foreign.ran.exists()
    import_named(foreign.name)
    assert foreign.ran.exists()
    assert sm.load(foreign.weights).num_queries == 5


@pytest.mark.parametrize(
    "name",
    [
        *("{}:tiny", "{}:untyped", "{}:absent", "{}:tiny.x", "{}", ":tiny", "{}:", "{}.sub:tiny"),
        *(
            "os:system",
            "subprocess:run",
            "builtins:exec",
            "importlib:import_module",
            "pathlib:Path",
        ),
    ],
)
def test_no_name_on_a_card_imports_or_calls_anything(foreign, name):
    card = foreign.weights / "model.json"
    tree = json.loads(card.read_text())
    tree["preset"] = name.format(foreign.module)
    card.write_text(json.dumps(tree))
    with pytest.raises(SetmatchError):
        sm.load(foreign.weights)
    with pytest.raises(SetmatchError):
        build(read(foreign.weights).card)
    assert foreign.module not in sys.modules
    assert not foreign.ran.exists()


def test_mistakes_about_a_factory_are_named(foreign):
    import_named(foreign.name)
    for name, arguments, message in (
        (f"{foreign.module}:tiny", {"dimm": 4}, "did you mean dim"),
        (f"{foreign.module}:tinny", {}, "has no tinny; did you mean tiny"),
        (f"{foreign.module}:nothing", {}, "has no nothing; give the name of a factory"),
        ("os:system", {}, "not a factory of detectors"),
    ):
        with pytest.raises(ConfigError, match=message):
            build(ModelCard(name, arguments, PETS))


def test_a_recipe_imports_nothing(foreign, scenes, tmp_path):
    recipe = load_recipe("detr", [f"model.preset={foreign.name}"]).model_dump(mode="json")
    with pytest.raises(ConfigError, match="--import"):
        sm.train(scenes, out=tmp_path / "run", recipe=recipe, epochs=1, overrides=FAST)
    assert not foreign.ran.exists()


def test_the_command_line_imports_what_the_user_names(foreign, scenes, tmp_path, capsys):
    settings = [token for setting in FAST for token in ("--set", setting)]
    run = [str(scenes), "--out", str(tmp_path / "run"), "--epochs", "1", *settings]
    evaluate = ["evaluate", str(tmp_path / "run"), str(scenes), "--workers", "0"]
    assert main(["train", *run, "--model", foreign.name, "--device", "cpu"]) == 0
    del sys.modules[foreign.module]
    foreign.ran.unlink()
    assert main(evaluate) == 2
    assert f"--import {foreign.module}" in capsys.readouterr().err
    assert main(["train", *run, "--resume", "--device", "cpu"]) == 2
    assert not foreign.ran.exists()
    assert main([*evaluate, "--import", foreign.module]) == 0
    assert main(["--import=" + foreign.module, "train", *run, "--resume", "--device", "cpu"]) == 0


@pytest.mark.parametrize("module", ["not_installed", "", ".relative", "a b", "setmatch.absent"])
def test_a_module_that_cannot_be_imported_is_named(module, capsys):
    assert main(["models", "--import", module]) == 2
    assert f"module {module}: cannot be imported" in capsys.readouterr().err
