"""A video is a sequence of images: each frame has the detections of its image, and its time."""

import gc
import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

import setmatch as sm
from clips import red_box_frames, write_clip
from fake_detectors import RedFinder
from setmatch.data.images.image_io import read_image
from setmatch.data.synthetic.scenes import EASY, Scene, scene, write_scenes
from setmatch.errors import ConfigError, DataError, ExtraMissingError
from setmatch.models.registry import build
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing
from thorough import usually

SCENE_PX = 160


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", red_box_frames(25))


def running() -> set[str]:
    return {thread.name for thread in threading.enumerate()} & {"decode video", "prepare frames"}


def test_each_frame_has_its_detections_and_time(clip: Path):
    frames = list(sm.predict_video(RedFinder(), clip, threshold=0.7))
    assert [frame.index for frame in frames] == list(range(25))
    assert frames[24].time_s == pytest.approx(24 / 25)
    for frame in frames:
        (found,) = frame.detections
        x = 8 + frame.index
        np.testing.assert_allclose(found.xyxy_px, (x, 16, x + 32, 40), atol=2)
        assert frame.detections.size_px == (64, 96)
    assert running() == set()


def test_a_turned_video_is_predicted_upright(tmp_path: Path):
    stored = [np.rot90(frame, -1) for frame in red_box_frames(3)]
    clip = write_clip(tmp_path / "clip.mp4", stored, rotation=90)
    *_, frame = sm.predict_video(RedFinder(), clip, threshold=0.7)
    np.testing.assert_allclose(frame.detections.xyxy_px[0], (10, 16, 42, 40), atol=2)
    assert frame.draw().size == (96, 64)


def test_the_scenes_of_a_video_are_found_as_those_of_images(tmp_path: Path):
    """Every frame is another generated scene, whose truth is known."""
    scenes = [scene((7, number), SCENE_PX) for number in range(12)]
    clip = write_clip(tmp_path / "clip.mp4", [each.pixels for each in scenes])
    model = sm.load("scenes_n")
    found = [frame.detections for frame in sm.predict_video(model, clip, threshold=0.3)]
    as_images = sm.predict(model, [each.pixels for each in scenes], threshold=0.3)
    assert recall(scenes, found) > 0.85
    assert recall(scenes, found) > recall(scenes, as_images) - 0.05


def recall(scenes: list[Scene], found: list[sm.Detections]) -> float:
    """The fraction of the objects that a detection of their class covers."""
    hits = []
    for truth, detections in zip(scenes, found, strict=True):
        xywh = torch.tensor(truth.xywh_px, dtype=torch.float32)
        overlap = box_iou(
            torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1), detections.xyxy_px
        )
        same = torch.tensor(truth.classes)[:, None] == detections.classes[None, :]
        hits += ((overlap > 0.5) & same).any(1).tolist()
    return sum(hits) / len(hits)


@pytest.mark.campaign
def test_the_average_precision_of_a_video_is_that_of_its_images(tmp_path: Path):
    """COCO's metric over 200 frames; compression costs less than a point."""
    write_scenes(tmp_path / "data", 1, 200, SCENE_PX, 3, 0)
    tree = json.loads((tmp_path / "data/annotations/val.json").read_text())
    model = sm.load("scenes_n")
    images = [read_image(tmp_path / "data/images" / each["file_name"]) for each in tree["images"]]
    clip = write_clip(tmp_path / "clip.mkv", [each.permute(1, 2, 0).numpy() for each in images])
    frames = list(sm.predict_video(model, clip, threshold=0.0))
    assert len(frames) == 200
    whole = sm.evaluate(model, tmp_path / "data", split="val").AP
    for number, frame in enumerate(frames):
        pixels = frame.detections.image
        assert pixels is not None
        path = tmp_path / "data/images" / tree["images"][number]["file_name"]
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path.with_suffix(".png"))
        tree["images"][number]["file_name"] = path.with_suffix(".png").name
    (tmp_path / "data/annotations/val.json").write_text(json.dumps(tree))
    assert pytest.approx(whole, abs=0.01) == sm.evaluate(model, tmp_path / "data", split="val").AP


@pytest.mark.parametrize("taken", usually([0, 1, 6], 1))
def test_leaving_the_loop_early_frees_everything(clip: Path, taken: int):
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    frames = sm.predict_video(RedFinder(), clip)
    for _ in range(taken):
        next(frames)
    frames.close()
    del frames
    gc.collect()
    assert running() == set()
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_an_error_of_the_model_frees_everything(clip: Path):
    class Fails(RedFinder):
        def forward(self, batch: sm.Batch) -> tuple[sm.PredictionGroup, ...]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        next(sm.predict_video(Fails(), clip))
    assert running() == set()


def test_batches_do_not_change_what_is_found(clip: Path):
    one, many = (
        [frame.detections.xyxy_px for frame in sm.predict_video(RedFinder(), clip, batch_size=size)]
        for size in (1, 16)
    )
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(one, many, strict=True))


def test_a_change_of_size_in_the_middle_is_followed(tmp_path: Path):
    """Two transport streams one after the other, as a camera that is reconfigured."""
    small = write_clip(tmp_path / "a.ts", red_box_frames(6), codec="mpeg2video")
    large = write_clip(tmp_path / "b.ts", red_box_frames(6, (192, 128)), codec="mpeg2video")
    joined = tmp_path / "c.ts"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    sizes = [frame.detections.size_px for frame in sm.predict_video(RedFinder(), joined)]
    small_count = sizes.count((64, 96))
    assert sizes == [(64, 96)] * small_count + [(128, 192)] * (len(sizes) - small_count)
    assert small_count >= 5
    assert len(sizes) >= 11  # the join may cost a frame


def test_tiles_see_the_parts_of_each_frame(tmp_path: Path):
    """Four scenes beside each other, in which the whole frame shows objects too small."""
    scenes = [scene((9, number), SCENE_PX, EASY) for number in range(4)]
    row = np.concatenate([each.pixels for each in scenes], axis=1)
    clip = write_clip(tmp_path / "clip.mp4", [row] * 2)
    model = sm.load("scenes_n")
    whole, tiled = (
        sum(len(f.detections) for f in sm.predict_video(model, clip, threshold=0.5, tiles=tiles))
        for tiles in (None, SCENE_PX)
    )
    assert tiled > whole


def test_a_model_with_masks_gives_segments_and_with_tracks_boxes(clip: Path):
    card = ModelCard(
        "setmatch_n_panoptic", {"num_queries": 8}, Categories((1,), ("a",)), Preprocessing(64, 96)
    )
    torch.manual_seed(0)
    model = build(card)
    for track in (False, True):
        frames = sm.predict_video(model, clip, threshold=0.0, track=track)
        frame = next(frames)
        frames.close()
        assert (frame.detections.segments is None) == track
        assert frame.detections.masks is not None
        assert frame.draw().size == (96, 64)


def test_classes_and_thresholds_are_those_of_images(clip: Path):
    frames = sm.predict_video(RedFinder(), clip, classes=["red"], threshold=0.0)
    assert {each.name for each in next(frames).detections} == {"red"}
    frames.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every = 0"),
        ({"fps": 0.0}, "fps = 0"),
        ({"fps": float("nan")}, "fps = nan"),
        ({"every": 2, "fps": 1.0}, "choose one"),
        ({"threshold": 2.0}, "threshold = 2"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"classes": ["dog"]}, "dog"),
    ],
)
def test_options_out_of_range_are_refused_at_once(
    clip: Path, options: dict[str, float], message: str
):
    with pytest.raises(ConfigError, match=message):
        sm.predict_video(RedFinder(), clip, **options)  # type: ignore[arg-type]


def test_a_missing_file_is_an_error_at_once(tmp_path: Path):
    with pytest.raises(DataError, match="No such file"):
        sm.predict_video(RedFinder(), tmp_path / "none.mp4")


@pytest.mark.parametrize(("library", "extra"), [("av", "video"), ("trackers", "track")])
def test_a_missing_library_is_named_with_its_extra(
    clip: Path, monkeypatch: pytest.MonkeyPatch, library: str, extra: str
):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ExtraMissingError, match=rf"setmatch\[{extra}\]"):
        sm.predict_video(RedFinder(), clip, track=True)
