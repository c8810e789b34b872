"""A large image of small objects: tiles find what the whole image is too small to show."""

import dataclasses
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

import setmatch as sm
from setmatch.cli import main
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import ConfigError
from setmatch.inference.engines.eager import as_engine
from setmatch.inference.tiles.engine import with_tiles
from setmatch.inference.tiles.views import Tiling, views_of
from setmatch.models.detector import Detector
from setmatch.models.registry import build
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

SCENE_PX, SIDE = 160, 4  # scenes, and how many of them beside each other


@pytest.fixture(scope="module")
def scenes_n() -> Detector:
    return sm.load("scenes_n")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen scenes in one image, as a COCO data set of one image."""
    root = tmp_path_factory.mktemp("large")
    write_scenes(root / "scenes", 1, SIDE * SIDE, SCENE_PX, 5, 0)
    tree = json.loads((root / "scenes/annotations/val.json").read_text())
    image = np.zeros((SIDE * SCENE_PX, SIDE * SCENE_PX, 3), dtype=np.uint8)
    places = {}
    for number, each in enumerate(tree["images"]):
        y, x = (SCENE_PX * place for place in divmod(number, SIDE))
        pixels = np.asarray(Image.open(root / "scenes/images" / each["file_name"]).convert("RGB"))
        image[y : y + SCENE_PX, x : x + SCENE_PX] = pixels
        places[each["id"]] = (x, y)
    for annotation in tree["annotations"]:
        x, y = places[annotation.pop("image_id")]
        box = annotation["bbox"]
        annotation |= {"image_id": 1, "bbox": [box[0] + x, box[1] + y, *box[2:]]}
        annotation.pop("segmentation", None)
    size = {"height": SIDE * SCENE_PX, "width": SIDE * SCENE_PX}
    tree["images"] = [{"id": 1, "file_name": "large.png", **size}]
    (root / "data/annotations").mkdir(parents=True)
    (root / "data/images").mkdir()
    (root / "data/annotations/val.json").write_text(json.dumps(tree))
    Image.fromarray(image).save(root / "data/images/large.png")
    return root / "data"


@pytest.mark.parametrize("tiles", ["auto", SCENE_PX, 200])
def test_tiles_at_least_double_what_is_found(scenes_n: Detector, large: Path, tiles: int | str):
    whole = sm.evaluate(scenes_n, large, split="val")
    tiled = sm.evaluate(scenes_n, large, split="val", tiles=tiles)
    assert tiled.AP > 2 * whole.AP
    assert tiled.AP50 > 0.5


def test_no_object_is_found_twice_along_borders(scenes_n: Detector, large: Path):
    found = sm.predict(scenes_n, large / "images/large.png", tiles=150, threshold=0.5)
    assert len(found) > 20
    assert found.size_px == (SIDE * SCENE_PX, SIDE * SCENE_PX)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    same_class = found.classes[:, None] == found.classes[None, :]
    overlap = box_iou(found.xyxy_px, found.xyxy_px).triu(1)
    twice = ((overlap > 0.5) & same_class).nonzero()
    assert len(twice) <= 1  # the model finds one object twice in one tile


def test_an_image_that_is_no_larger_than_a_tile_is_seen_once(scenes_n: Detector, large: Path):
    """Objects that are found for sure: rounding may exchange the others."""
    image = np.asarray(Image.open(large / "images/large.png"))[:120, :SCENE_PX]
    usual = sm.predict(scenes_n, image, threshold=0.5)
    tiled = sm.predict(scenes_n, image, threshold=0.5, tiles=SCENE_PX)
    assert len(tiled) == len(usual) > 0
    apart = (tiled.xyxy_px[:, None] - usual.xyxy_px[None]).abs().amax(dim=2)
    assert (apart.amin(dim=1) < 0.5).all()  # resized as float, not as bytes


@dataclasses.dataclass
class Seen:
    """Records what a model is given."""

    shapes: list[tuple[int, ...]]

    def __call__(self, module: Detector, arguments: tuple, output: object) -> None:
        self.shapes.append(tuple(arguments[0].pixels.shape))


def test_tiles_are_resized_as_the_models_images(scenes_n: Detector):
    seen = Seen([])
    hook = scenes_n.register_forward_hook(seen)
    sm.predict(scenes_n, torch.zeros(3, 300, 500, dtype=torch.uint8), tiles=320, overlap=0.25)
    hook.remove()
    short, long = (
        scenes_n.card.preprocessing.short_side_px,
        scenes_n.card.preprocessing.long_side_px,
    )
    (whole, *tiles) = seen.shapes
    assert whole[0] == 1
    assert max(whole[2:]) <= long
    assert sum(shape[0] for shape in tiles) == 2
    assert {min(shape[2:]) for shape in tiles} == {short}


def test_masks_lie_where_their_tiles_do():
    """Each is that of the tile alone, which is not resized here, and empty elsewhere."""
    torch.manual_seed(0)
    card = ModelCard(
        "setmatch_n_panoptic", {"num_queries": 8}, Categories((1,), ("a",)), Preprocessing(96, 128)
    )
    model = build(card).eval()
    with torch.no_grad():
        for head in model.decoder.class_heads:
            head.bias.zero_()
    image = torch.randint(0, 255, (3, 150, 250), dtype=torch.uint8)
    found = sm.predict(model, image, tiles=96, threshold=0.0)
    assert found.segments is None
    assert found.masks is not None
    assert found.masks.unpack().shape == (len(found), 150, 250)
    compared = 0
    for view in views_of((150, 250), Tiling(96))[1:]:
        rows, columns = slice(view.y0, view.y1), slice(view.x0, view.x1)
        for alone in sm.predict(model, image[:, rows, columns], threshold=0.0):
            for each in found:
                if abs(each.score - alone.score) < 1e-6:
                    expected = torch.zeros(150, 250, dtype=torch.bool)
                    expected[rows, columns] = alone.mask
                    assert (each.mask != expected).float().mean() < 1e-3
                    compared += 1
    assert compared >= 8


@pytest.mark.parametrize("tiles", [0, 31, -1, "large"])
def test_other_tiles_are_refused(scenes_n: Detector, tiles: int | str):
    with pytest.raises(ConfigError, match="tile"):
        # Without the type checks of the tests, which users do not have.
        inspect.unwrap(with_tiles)(as_engine(scenes_n), tiles)


def test_the_commands_take_tiles(large: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    image = str(large / "images/large.png")
    found = []
    for name, options in (("whole", []), ("tiled", ["--tiles", str(SCENE_PX), "--overlap", "0.3"])):
        out = tmp_path / name
        assert main(["predict", "scenes_n", image, "--out", str(out), *options]) == 0
        found.append(len(json.loads((out / "detections.json").read_text())))
    assert found[1] > 2 * found[0]
    assert main(["evaluate", "scenes_n", str(large), "--tiles", "auto"]) == 0
    saved = str(tmp_path / "tiled/detections.json")
    assert main(["evaluate", saved, str(large), "--tiles", "auto"]) == 2
    assert "has saved detections; predict with tiles" in capsys.readouterr().err
