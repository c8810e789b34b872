"""A config.json of another size than the tensors beside it, in every family."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import setmatch
from setmatch.models.conditional_detr import checkpoint as placed
from setmatch.models.deformable_detr import transformers_checkpoint as deformable
from setmatch.models.deimv2 import transformers_checkpoint as deimv2
from setmatch.models.detr import transformers_checkpoint as detr
from setmatch.models.dfine import transformers_checkpoint as dfine
from setmatch.models.load import convert_weights
from setmatch.models.lwdetr import transformers_checkpoint as lwdetr
from setmatch.models.registry import build
from setmatch.models.rfdetr import transformers_checkpoint as rfdetr
from setmatch.models.rtdetr import transformers_checkpoint as rtdetr
from setmatch.models.weights.stated_sizes import StatedSize
from setmatch.structures.metadata import Categories, ModelCard
from thorough import usually

from .comparison import assert_refused
from .small_deformable_detr import small_deformable_detr
from .small_deimv2 import small_deimv2
from .small_dfine import small_dfine
from .small_lwdetr import small_lwdetr
from .small_placed_detr import small_placed_detr
from .small_rfdetr import small_rfdetr, small_rfdetr_with_masks
from .small_rtdetr import small_rtdetr


def _save(model: Any) -> Callable[[Path], None]:
    return model.save_pretrained


def _save_detr(folder: Path) -> None:
    shape = {"dim": 8, "heads": 2, "ffn_dim": 8, "encoder_layers": 1, "decoder_layers": 1}
    card = ModelCard("detr_r50", shape, Categories((0,), ("a",)))
    setmatch.save(build(card), folder.with_name("ours"))
    convert_weights(folder.with_name("ours"), folder, "transformers")


CASES: dict[str, tuple[tuple[StatedSize, ...], Callable[[], Callable[[Path], None]]]] = {
    "detr": (detr.SIZES, lambda: _save_detr),
    "conditional": (placed.SIZES, lambda: _save(small_placed_detr("conditional"))),
    "dab": (placed.SIZES, lambda: _save(small_placed_detr("dab"))),
    "deformable": (deformable.SIZES, lambda: _save(small_deformable_detr("plain"))),
    "two_stage": (deformable.SIZES, lambda: _save(small_deformable_detr("two_stage"))),
    "rtdetr": (rtdetr.SIZES, lambda: _save(small_rtdetr("r18"))),
    "rtdetr_v2": (rtdetr.SIZES, lambda: _save(small_rtdetr("v2_r50"))),
    "dfine": (dfine.SIZES, lambda: _save(small_dfine("s"))),
    "deimv2": (deimv2.SIZES, lambda: _save(small_deimv2("n"))),
    "lwdetr": (lwdetr.SIZES, lambda: _save(small_lwdetr("l"))),
    "rfdetr": (rfdetr.SIZES, lambda: _save(small_rfdetr("n"))),
    "rfdetr_seg": (rfdetr.SIZES, lambda: _save(small_rfdetr_with_masks("n"))),
}


# Their table of sizes is that of another one that stays; and DETR, which is the largest.
TWINS = ("detr", "two_stage", "conditional", "rtdetr", "deimv2", "rfdetr_seg")


@pytest.mark.parametrize("name", usually(CASES, *[name for name in CASES if name not in TWINS]))
def test_every_size_that_differs_from_the_tensors_is_named(name: str, tmp_path: Path):
    stated, save = CASES[name]
    save()(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    setmatch.load(tmp_path / "model")
    changed = []
    for setting in (each.setting for each in stated):
        part, _, inner = setting.rpartition(".")
        settings = config[part] if part else config
        if settings.get(inner) is not None:
            settings[inner] = _larger(settings[inner])
            changed.append(f"{setting} = ")
    path.write_text(json.dumps(config))
    assert len(changed) >= 5
    assert_refused(tmp_path / "model", ".*".join(map(re.escape, changed)))


@pytest.mark.parametrize("value", ["large", -1, 0, 1.5, [], {}, 10**9])
def test_what_is_no_size_is_refused_in_one_line(value: object, tmp_path: Path):
    small_rtdetr("r18").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"decoder_attention_heads": value}))
    assert_refused(tmp_path, "decoder_attention_heads|not those of the layout")


def _larger(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case str():
            return "bottleneck" if value == "basic" else "basic"
        case list():
            return [*value[:-1], _larger(value[-1])]
    return 3 * value + 30
