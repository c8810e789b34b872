"""The arithmetic of benchmarks/tiles.py, on small images and with known detections."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def tiles():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
        import tiles

        yield tiles


@pytest.fixture(scope="module")
def scenes(tiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small") / "scenes"
    return tiles.write_scenes(out, tiles.Scenes(1, 2, 1200, 900), workers=0)


def truth_of(scenes: Path) -> dict:
    return json.loads((scenes / "annotations/val.json").read_text())


def test_the_scenes_have_small_objects_that_do_not_overlap(tiles, scenes: Path):
    tree = truth_of(scenes)
    assert [each["width"] for each in tree["images"]] == [900, 900]
    boxes = np.array([each["bbox"] for each in tree["annotations"] if each["image_id"] == 1])
    assert 4 <= len(boxes) <= 11
    assert boxes.min() >= 0
    assert ((boxes[:, :2] + boxes[:, 2:]) <= [900, 1200]).all()
    low, high = tiles.OBJECT_PX
    assert (boxes[:, 2:].max(axis=1) <= high + 2).all()
    assert (boxes[:, 2:].max(axis=1) >= 0.6 * low).all()
    for one, other in itertools.combinations(boxes.tolist(), 2):
        apart = [
            one[axis] >= other[axis] + other[axis + 2] or other[axis] >= one[axis] + one[axis + 2]
            for axis in (0, 1)
        ]
        assert any(apart)
    pixels = np.asarray(Image.open(scenes / "images/val_000.jpg"))
    assert pixels.shape == (1200, 900, 3)


def test_each_way_gets_its_own_ap_and_time(tiles, scenes: Path):
    """Perfect detections, half of them, and none; the first image of three is a warm-up."""
    tree, ticks, calls = truth_of(scenes), iter(range(10**6)), []

    def known(keep: int, name: str):
        def predict(pixels: np.ndarray) -> list[dict]:
            calls.append(name)
            shown = len(calls) // 3 - (len(calls) % 3 == 0)  # three ways an image
            image = tree["images"][max(shown - 1, 0)]["id"]
            rows = [each for each in tree["annotations"] if each["image_id"] == image]
            rows = rows[:: keep or 1] if keep else []
            return [{k: row[k] for k in ("bbox", "category_id")} | {"score": 0.9} for row in rows]

        return predict

    ways = {"tiles": known(1, "tiles"), "half": known(2, "half"), "whole": known(0, "whole")}
    found = tiles.measure(ways, scenes, clock=lambda: next(ticks))
    assert calls == ["tiles", "half", "whole"] * 3
    assert found["tiles"] == {"AP": 100.0, "AP50": 100.0, "AP_S": 100.0, "seconds": 1}
    assert 0 < found["half"]["AP"] < 100
    assert found["whole"]["AP"] == 0


@pytest.mark.parametrize(
    ("whole", "tiles_AP", "sahi", "expected"),
    [
        (20.0, 40.0, None, (20.0, True)),
        (20.1, 40.0, None, (19.9, False)),
        (0.0, 0.0, None, (0.0, False)),
        (0.0, 40.0, (39.0, 6.0), (40.0, True, 1.0, True, 1.5, True)),
        (0.0, 40.0, (41.0, 3.0), (40.0, True, -1.0, False, 0.75, False)),
    ],
)
def test_verdicts_follow_from_the_numbers(tiles, whole, tiles_AP, sahi, expected):
    measured = {
        "whole": {"AP": whole, "AP_S": whole, "seconds": 0.1},
        "tiles": {"AP": tiles_AP, "AP_S": tiles_AP, "seconds": 4.0},
    }
    if sahi:
        measured["sahi, worse"] = {"AP": sahi[0] - 5, "AP_S": 0.0, "seconds": 1.0}
        measured["sahi, best"] = {"AP": sahi[0], "AP_S": 0.0, "seconds": sahi[1]}
    found = tiles.verdicts(measured)
    gained = found["AP_S_above_whole_images"], found["AP_S_at_least_doubled"]
    assert gained == expected[:2]
    if sahi:
        assert found["best_of_sahi"] == "sahi, best"
        beside = ("AP_above_sahi", "AP_same_or_better", "times_as_fast_as_sahi", "at_least_as_fast")
        assert tuple(found[name] for name in beside) == expected[2:]
