"""Files of random configs with tensors that are missing, more, renamed or of another size."""

import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import setmatch
from setmatch.models.load import convert_weights
from thorough import usually

from ..comparison import assert_refused
from .families import FAMILIES

NAMES = {
    "dfine": "D-FINE",
    "deimv2": "DEIMv2",
    "rtdetr": "RT-DETR",
    "rtdetr_v2": "RT-DETR",
    "lwdetr": "LW-DETR",
    "rfdetr": "RF-DETR",
    "dab": "DAB-DETR",
    "conditional": "Conditional DETR",
    "deformable": "Deformable DETR",
}
State = dict[str, Tensor]


DAMAGE: dict[str, Callable[[State, str], State]] = {
    "missing": lambda state, key: {k: v for k, v in state.items() if k != key},
    "more": lambda state, key: state | {f"some.{key}": state[key].clone()},
    "renamed": lambda state, key: {f"{k}_x" if k == key else k: v for k, v in state.items()},
    "larger": lambda state, key: state | {key: torch.cat([state[key], state[key]])},
    "deeper": lambda state, key: state | {key: state[key][None].clone()},
    "integers": lambda state, key: state | {key: state[key].to(torch.int64)},
}


def _used(state: State) -> list[str]:
    """Return the tensors that a model needs: no counters, nothing computed, no heads kept twice."""
    left_out = ("num_batches_tracked", "points_scale", "anchors", "valid_mask", "up", "reg_scale")
    heads = ("bbox_embed", "class_embed", "bbox_predictor", "model.decoder.bbox_embed")
    return sorted(k for k in state if not k.endswith(left_out) and not k.startswith(heads))


@pytest.mark.parametrize("family", usually(NAMES, "rfdetr"))
def test_each_damage_is_one_line_that_names_the_family(family: str, tmp_path: Path):
    draw = Random(f"damage {family}")
    FAMILIES[family].build(FAMILIES[family].draw(draw)).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    setmatch.load(tmp_path)
    for damage in DAMAGE.values():
        damaged = damage(state, draw.choice(_used(state)))
        save_file({k: v.contiguous() for k, v in damaged.items()}, path, metadata={"format": "pt"})
        assert_refused(tmp_path, NAMES[family])


HEAD = re.compile(r"(?:model\.decoder\.)?((?:class|bbox)_embed\.(\d)\..+)")


@pytest.mark.parametrize(
    "family", usually(["dfine", "rtdetr_v2", "deformable"], "rtdetr_v2", "deformable")
)
def test_a_head_that_is_missing_is_not_that_of_another_layer(family: str, tmp_path: Path):
    """Only where all layers but the first have none is the first one's that of all."""
    draw = Random(f"heads {family}")
    drawn = FAMILIES[family].draw(draw)
    drawn.settings[1].update(decoder_layers=3, tie_word_embeddings=True)
    if family == "deformable":
        drawn.settings[1].update(with_box_refine=True, two_stage=False)
    FAMILIES[family].build(drawn).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    heads = {key: match for key in state if (match := HEAD.fullmatch(key))}
    names = sorted({match[1] for match in heads.values() if match[2] == "1"})
    for name in (names[0], names[-1]):
        kept = {k: v for k, v in state.items() if k not in heads or heads[k][1] != name}
        save_file(kept, path, metadata={"format": "pt"})
        assert_refused(tmp_path, NAMES[family])
    first = {k: v for k, v in state.items() if k not in heads or heads[k][2] == "0"}
    save_file(first, path, metadata={"format": "pt"})
    ours = setmatch.load(tmp_path).state_dict()
    shared = [ours[f"decoder.class_heads.{layer}.weight"] for layer in range(3)]
    assert all(torch.equal(each, shared[0]) for each in shared)


@pytest.mark.parametrize("family", usually(["dfine", "rtdetr", "rtdetr_v2"], "rtdetr"))
def test_damage_of_the_authors_file(family: str, tmp_path: Path):
    draw = Random(f"damage of the authors' {family}")
    drawn = FAMILIES[family].draw(draw)
    drawn.settings[1].update(encoder_attention_heads=1, encoder_hidden_dim=24)
    drawn.settings[1]["decoder_in_channels"] = [24] * len(drawn.settings[1]["decoder_in_channels"])
    FAMILIES[family].build(drawn).save_pretrained(tmp_path / "theirs")
    path = tmp_path / "model.pth"
    convert_weights(tmp_path / "theirs", path, "original")
    state = torch.load(path, weights_only=True)["model"]
    setmatch.load(path)
    for damage in DAMAGE.values():
        torch.save({"ema": {"module": damage(state, draw.choice(_used(state)))}}, path)
        assert_refused(path, NAMES[family])
    whole = path.read_bytes()
    path.write_bytes(whole[: draw.randrange(100, len(whole))])
    assert_refused(path, "damaged|truncated|cannot be read|not a")


@pytest.mark.parametrize("seed", usually([0, 1, 2, 3], 0))
@pytest.mark.parametrize("family", usually(["dfine", "rtdetr", "rtdetr_v2"], "dfine"))
def test_the_authors_layout_and_back_is_the_same_model(family: str, seed: int, tmp_path: Path):
    """Also what their files do not store, such as heads of attention."""
    drawn = FAMILIES[family].draw(Random(f"there and back {family} {seed}"))
    FAMILIES[family].build(drawn).save_pretrained(tmp_path / "theirs")
    ways = ("original", "original", "transformers", "original")
    paths = [tmp_path / name for name in ("1.pth", "2.pth", "3", "4.pth")]
    for source, path, to in zip([tmp_path / "theirs", *paths[:-1]], paths, ways, strict=True):
        convert_weights(source, path, to)
    whole = setmatch.load(tmp_path / "theirs").card.arguments
    assert all(setmatch.load(path).card.arguments == whole for path in paths)
    files = [torch.load(path, weights_only=True) for path in paths if path.suffix]
    for file in files:
        assert file["args"] == files[0]["args"]
        assert file["model"].keys() == files[0]["model"].keys()
        assert all(torch.equal(v, files[0]["model"][k]) for k, v in file["model"].items())
