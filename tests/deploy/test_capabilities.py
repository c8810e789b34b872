"""What a model can do, it can do with every engine: the same images, videos, rows and answers."""

import io
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import setmatch as sm
from clips import write_clip
from setmatch.bulk.predictor import Predictor
from setmatch.data.synthetic.scenes import scene, write_scenes
from setmatch.deploy.formats.base import ExportFormat
from setmatch.deploy.formats.traced import single_on_cpu
from setmatch.deploy.load import KINDS
from setmatch.deploy.server.app import make_app
from setmatch.inference.engines.torch_session import trust
from setmatch.inference.pipeline import ImageResult
from setmatch.inference.video.predict_video import predict_video
from setmatch.models.detector import Detector
from thorough import usually

Rows = list[list[float]]  # class, score, and what else is compared
THRESHOLD = 0.3
SIDE_PX = 160


def pixels() -> np.ndarray:
    return scene((3, 0), SIDE_PX).pixels


def rows_of(found: ImageResult) -> Rows:
    columns = (found.classes, found.scores, found.xyxy_px)
    classes, scores, boxes = (each.tolist() for each in columns)
    return [[label, score, *box] for label, score, box in zip(classes, scores, boxes, strict=True)]


def image(model: Path | str, place: Path) -> Rows:
    return rows_of(sm.predict(sm.load(model), pixels(), threshold=THRESHOLD))


def tiles(model: Path | str, place: Path) -> Rows:
    return rows_of(sm.predict(sm.load(model), pixels(), threshold=THRESHOLD, tiles=100))


def a_class_of_a_video_in_tiles(model: Path | str, place: Path) -> Rows:
    frames = predict_video(sm.load(model), video_file(place), tiles=100, classes=[0, 1, 2])
    return [[frame.index, *row] for frame in frames for row in rows_of(frame.detections)]


def tracks(model: Path | str, place: Path) -> Rows:
    frames = predict_video(sm.load(model), video_file(place), threshold=THRESHOLD, track=True)
    return [
        [frame.index, -1 if track is None else track.id, *row]
        for frame in frames
        for track, row in zip(frame.tracks, rows_of(frame.detections), strict=True)
    ]


def parquet(model: Path | str, place: Path) -> Rows:
    table = Predictor(str(model), threshold=THRESHOLD).table(["a"], [str(image_file(place))], int)
    names = ("class_index", "score", "x0_px", "y0_px", "x1_px", "y1_px")
    return [[row[name] for name in names] for row in table.to_pylist()]


def server(model: Path | str, place: Path) -> Rows:
    from setmatch.inference.engines.eager import as_engine

    with TestClient(make_app(as_engine(sm.load(model)), "a model")) as client:
        content = image_file(place).read_bytes()
        response = client.post(f"/v1/detect?threshold={THRESHOLD}", content=content)
    return [
        [each["category_id"], each["score"], *each["xyxy_px"]]
        for each in response.json()["detections"]
    ]


def average_precision(model: Path | str, place: Path) -> Rows:
    data = place / "data"
    write_scenes(data, 2, 4, SIDE_PX, 0, 0)
    return [[100 * sm.evaluate(sm.load(model), data, split="val").AP]]


def image_file(place: Path) -> Path:
    file = io.BytesIO()
    Image.fromarray(pixels()).save(file, "PNG")
    path = place / "image.png"
    path.write_bytes(file.getvalue())
    return path


def video_file(place: Path) -> Path:
    """The scene, which moves to the left."""
    still = pixels()
    return write_clip(place / "clip.mp4", [np.roll(still, -2 * step, 1) for step in range(6)])


CAPABILITIES: dict[str, Callable[[Path | str, Path], Rows]] = {
    function.__name__: function
    for function in (
        *(image, tiles, a_class_of_a_video_in_tiles, tracks, parquet, server, average_precision),
    )
}
COMPILED = "compiled"  # takes minutes to be made
ENGINES = [name for name in KINDS if name != COMPILED]


@pytest.fixture(scope="session")
def files(
    scenes_n: Detector,
    scenes_onnx: Path,
    scenes_xml: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Path]:
    """A file of the model for an engine; what is compiled is made when it is asked for."""
    made = {".onnx": scenes_onnx, ".xml": scenes_xml}
    folder = tmp_path_factory.mktemp("compiled")

    def file(engine: str) -> Path:
        kind: ExportFormat = KINDS[engine]
        if kind.suffix not in made:
            path = folder / f"model{kind.suffix}"
            kind.build(single_on_cpu(scenes_n), None, False).save(path)
            trust(path)
            made[kind.suffix] = path
        return made[kind.suffix]

    return file


def assert_same(capability: str, file: Path, place: Path) -> None:
    """The rows are those of the model: order, classes and tracks exactly, boxes within 0.01 px."""
    expected = CAPABILITIES[capability]("scenes_n", place)
    found = CAPABILITIES[capability](file, place)
    assert len(found) == len(expected) > 0
    assert np.allclose(found, expected, rtol=0, atol=0.01)


CASES = list(product(CAPABILITIES, ENGINES))


USUAL = (("server", "onnxruntime"), ("image", "openvino"))


@pytest.mark.parametrize("case", usually(CASES, *USUAL), ids=" by ".join)
def test_every_engine_does_what_the_model_does(
    case: tuple[str, str], files: Callable[[str], Path], tmp_path: Path
):
    capability, engine = case
    assert_same(capability, files(engine), tmp_path)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_compiled_code_does_what_the_model_does(
    capability: str, files: Callable[[str], Path], tmp_path: Path
):
    assert_same(capability, files(COMPILED), tmp_path)
