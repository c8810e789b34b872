"""The audit recommends tiles where large images are made too small for their objects."""

import json
from pathlib import Path

import pytest
from PIL import Image

from setmatch.cli import main
from setmatch.data.audit.audit import audit
from setmatch.data.audit.preflight import check_data
from setmatch.data.audit.recommend.num_queries import usual_objects
from setmatch.data.audit.recommend.tiles import needs_tiles, specks
from setmatch.data.batches.random_tile import RandomTile
from setmatch.data.dataset import DetectionDataset
from setmatch.data.open import open_dataset
from setmatch.recipe_text import load_recipe
from setmatch.structures.metadata import Preprocessing

KIND = "objects small for their image"
SHOWN = Preprocessing(320, 640)


def write(
    root: Path,
    size_px: tuple[int, int],
    sides_px: list[int],
    places: list[tuple[int, int]] | None = None,
) -> Path:
    """Write one gray image with square objects, all near the upper left corner by default."""
    height, width = size_px
    places = places or [(number, number) for number in range(len(sides_px))]
    tree = {
        "images": [{"id": 1, "file_name": "large.png", "height": height, "width": width}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {
                "id": number,
                "image_id": 1,
                "category_id": 1,
                "bbox": [*places[number], side, side],
                "area": side * side,
                "iscrowd": 0,
            }
            for number, side in enumerate(sides_px)
        ],
    }
    for folder in ("annotations", "images"):
        (root / folder).mkdir(parents=True)
    (root / "annotations/train.json").write_text(json.dumps(tree))
    Image.new("L", (width, height), 128).save(root / "images/large.png")
    return root


def opened(root: Path, size_px: tuple[int, int], sides_px: list[int]) -> DetectionDataset:
    write(root, size_px, sides_px)
    return open_dataset(root / "annotations/train.json", "train")


@pytest.mark.parametrize(
    ("size_px", "sides_px", "fraction"),
    [
        ((1280, 1280), [40] * 10, 1.0),  # 10 px whole, 40 px in tiles
        ((1280, 1280), [63] * 10, 1.0),
        ((1280, 1280), [64] * 10, 0.0),  # 16 px are enough
        ((1280, 1280), [40] + [200] * 9, 0.1),
        ((1280, 1280), [40] + [200] * 10, 1 / 11),
        ((480, 480), [20] * 10, 1.0),  # tiles show them half as large again
        ((470, 470), [20] * 10, 0.0),
        ((320, 320), [8] * 10, 0.0),  # and here no larger
        ((160, 160), [4] * 10, 0.0),
        ((320, 6400), [40] * 10, 1.0),  # the long side counts
        ((1280, 1280), [], 0.0),
    ],
)
def test_objects_that_tiles_enlarge_are_counted(tmp_path: Path, size_px, sides_px, fraction: float):
    dataset = opened(tmp_path, size_px, sides_px)
    found = specks(dataset, SHOWN)
    assert found.sum() == pytest.approx(fraction * len(found))
    assert needs_tiles(dataset, SHOWN) == (fraction >= 0.1)


def test_the_finding_names_the_command_and_the_plan_has_tiles(tmp_path: Path):
    root = write(tmp_path / "my data", (2000, 3000), [30] * 12)
    found = audit(root, has_gpu=False, format="coco")
    (finding,) = [each for each in found.findings if each.kind == KIND]
    command = f"setmatch train '{root}' --tiles auto --out runs/tiles --format coco"
    assert command in finding.action
    assert finding.value.startswith("100% of 12 objects; their median has 7 px")
    assert "30 px in tiles of 480 px" in finding.value
    assert found.plan is not None
    assert found.plan.recipe.data.tiles == "auto"
    assert any(reason.startswith("tiles of 480 px: 100% ") for reason in found.plan.reasons)
    path = tmp_path / "plan.yaml"
    found.write_recipe(path)
    assert load_recipe(path) == found.plan.recipe


@pytest.mark.parametrize("has_gpu", [False, True])
def test_nothing_is_recommended_where_objects_are_large(tmp_path: Path, has_gpu: bool):
    root = write(tmp_path, (2000, 3000), [400] * 4)
    found = audit(root, has_gpu=has_gpu)
    assert not [each for each in found.findings if each.kind == KIND]
    assert found.plan is not None
    assert found.plan.recipe.data.tiles is None


def test_training_says_so_unless_it_uses_tiles(tmp_path: Path):
    dataset = opened(tmp_path, (3200, 3200), [40] * 10)
    whole = check_data(dataset, None, 100, SHOWN).sentences()
    assert any(KIND in each and "--tiles auto" in each for each in whole)
    assert any("smaller than 8 px" in each for each in whole)  # 4 px
    tiled = check_data(dataset, None, 100, SHOWN, "auto").sentences()
    assert not any(KIND in each or "smaller than 8 px" in each for each in tiled)
    larger = check_data(dataset, None, 100, SHOWN, 1920).sentences()  # 6.7 px
    assert any("smaller than 8 px" in each for each in larger)


@pytest.mark.parametrize("tiles", ["2000", "99999"])
def test_tiles_larger_than_every_image_are_refused(tmp_path: Path, capsys, tiles: str):
    root = write(tmp_path / "data", (1500, 2000), [30] * 4)
    run = tmp_path / "run"
    assert main(["train", str(root), "--out", str(run), "--tiles", tiles, "--epochs", "1"]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"setmatch: tiles of {tiles} px: no training image is larger")
    assert "2000x1500 px" in last
    assert not run.exists()


@pytest.mark.parametrize("tiles", ["31", "0", "-5", "large", "1.5"])
def test_other_sides_are_refused(tmp_path: Path, capsys, tiles: str):
    root = write(tmp_path / "data", (100, 100), [30] * 4)
    run = tmp_path / "run"
    assert main(["train", str(root), "--out", str(run), f"--tiles={tiles}", "--epochs", "1"]) == 2
    assert "tiles" in capsys.readouterr().err
    assert not run.exists()


def test_tiles_need_queries_for_what_they_show_at_once(tmp_path: Path):
    """Forty specks in five places; and large objects, which whole images show."""
    tile = RandomTile(320, SHOWN)
    places = [(x, 600) for x in (0, 500, 1000, 1500, 2000) for _ in range(8)]
    dataset = open_dataset(write(tmp_path / "a", (1280, 2400), [30] * 40, places), "train")
    assert usual_objects(dataset) == 40
    assert usual_objects(dataset, tile) == 8
    near = [(x, 310) for x in (0, 140, 240)]  # of one tile, though not of a fixed grid
    dataset = open_dataset(write(tmp_path / "b", (1280, 2400), [30] * 3, near), "train")
    assert usual_objects(dataset, tile) == 3
    apart = [(x, 0) for x in range(0, 2300, 230)]  # 25 px each
    dataset = open_dataset(write(tmp_path / "c", (1280, 2400), [100] * 10, apart), "train")
    assert usual_objects(dataset, tile) == 10


def test_crowded_images_are_those_with_a_crowded_view(tmp_path: Path):
    places = [(x, 600) for x in (0, 500, 1000, 1500, 2000) for _ in range(8)]
    dataset = open_dataset(write(tmp_path, (1280, 2400), [30] * 40, places), "train")
    for tiles, queries, crowded in ((None, 40, 0), (None, 39, 1), (320, 8, 0), (320, 7, 1)):
        found = check_data(dataset, None, queries, SHOWN, tiles).findings
        assert sum("more objects than queries" in each.kind for each in found) == crowded
