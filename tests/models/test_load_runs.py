"""The weights of a run are used only if its manifests vouch for them."""

import shutil
from pathlib import Path

import pytest

import setmatch
from setmatch.errors import WeightsError
from setmatch.files.manifest import MANIFEST, write_whole
from setmatch.models.load import save
from setmatch.models.registry import build
from setmatch.models.weights.card import CARD, WEIGHTS
from setmatch.structures.metadata import Categories, ModelCard

SMALL = {"dim": 16, "heads": 2, "ffn_dim": 16, "num_queries": 8, "denoising_queries": 4}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder as training leaves it: best weights that know cats, and a checkpoint of dogs."""
    for folder, name in (("best", "cat"), ("checkpoints/step_00000004", "dog")):
        model = build(ModelCard("setmatch_n", SMALL, Categories((1,), (name,))))
        (tmp_path / "run" / folder).parent.mkdir(parents=True, exist_ok=True)
        write_whole(tmp_path / "run" / folder, lambda new, model=model: save(model, new), {})
    return tmp_path / "run"


def flip_bit(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def rename_class(card: Path) -> None:
    """Change a card so that it stays valid: it would predict another class."""
    card.write_text(card.read_text().replace('"cat"', '"cow"'))


DAMAGE = {
    "a bit of the manifest": lambda best: flip_bit(best / MANIFEST, 40),
    "half a manifest": lambda best: (best / MANIFEST).write_text("{"),
    "no manifest": lambda best: (best / MANIFEST).unlink(),
    "a manifest of nothing": lambda best: (best / MANIFEST).write_text("[]"),
    "a class of the card": lambda best: rename_class(best / CARD),
    "a bit of the weights": lambda best: flip_bit(best / WEIGHTS, -9),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_best_weights_are_named_and_the_checkpoint_is_used(
    run: Path, caplog: pytest.LogCaptureFixture, damage
):
    assert setmatch.load(run).card.categories.names == ("cat",)
    caplog.clear()
    damage(run / "best")
    assert setmatch.load(run).card.categories.names == ("dog",)
    assert f"{run / 'best'}" in caplog.text
    assert "step_00000004" in caplog.text


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_without_a_checkpoint_damage_is_an_error(run: Path, damage):
    shutil.rmtree(run / "checkpoints")
    damage(run / "best")
    with pytest.raises(WeightsError, match=r"no undamaged weights in this run: .*best"):
        setmatch.load(run)


def test_a_folder_of_weights_is_compared_with_its_manifest(run: Path):
    """Without one, as `save` writes it, the SHA-256 in the card is what there is."""
    flip_bit(run / "best" / MANIFEST, 40)
    with pytest.raises(WeightsError, match=r"manifest\.json"):
        setmatch.load(run / "best")
    (run / "best" / MANIFEST).unlink()
    assert setmatch.load(run / "best").card.categories.names == ("cat",)


def test_a_manifest_that_omits_the_card_vouches_for_nothing(run: Path):
    """One that is in order, but of other files."""
    write_whole(run / "other", lambda new: (new / "x").write_text("x"), {})
    shutil.copy(run / "other" / MANIFEST, run / "best" / MANIFEST)
    with pytest.raises(WeightsError, match=r"model\.json"):
        setmatch.load(run / "best")
