"""The predictor in a worker: pickled, loaded once, and called with batches of any kind."""

import io
import pickle
import threading
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import pandas
import pyarrow
import pytest
import torch
from PIL import Image
from red_boxes import finder, write_boxes

from fake_detectors import RedFinder, red_box_image
from setmatch.bulk import COLUMNS, SPARK_SCHEMA, Predictor, empty_frame
from setmatch.data.images.decoding import read_pixels
from setmatch.errors import ConfigError, WeightsError
from setmatch.inference.predict import predict
from setmatch.models.registry import build
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = write_boxes(tmp_path_factory.mktemp("predictor") / "in", 5)
    return [str(path) for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def expected(paths: list[str]) -> pyarrow.Table:
    return finder()({"path": np.array(paths)})


def test_every_kind_of_batch_gives_the_same_rows(paths: list[str], expected: pyarrow.Table):
    """Lists and arrays, columns, frames and tables, and iterators of them."""
    predictor = finder()
    assert expected.schema.names == list(COLUMNS)
    assert predictor(paths) == predictor(np.array(paths)) == expected.to_pylist()
    assert predictor([Path(path) for path in paths]) == expected.to_pylist()
    assert predictor(pyarrow.table({"item": paths})).equals(expected)
    frame = predictor(pandas.DataFrame({"path": paths}))
    assert frame.equals(expected.to_pandas(types_mapper={pyarrow.int32(): pandas.Int32Dtype()}.get))
    halves = predictor(pandas.DataFrame({"path": part}) for part in (paths[:2], paths[2:]))
    assert pandas.concat(halves, ignore_index=True).equals(frame)


def test_pixels_and_bytes_are_images(paths: list[str], expected: pyarrow.Table):
    """As Ray and Spark read them, with the path beside them or without."""
    readable = [path for path in paths if not path.endswith("002.png")]
    pixels = np.empty(len(readable), object)
    pixels[:] = [read_pixels(path) for path in readable]
    contents = [Path(path).read_bytes() for path in readable]
    rows = [row for row in expected.to_pylist() if row["error"] is None]
    predictor = finder()
    assert predictor({"path": np.array(readable), "image": pixels}).to_pylist() == rows
    assert predictor({"path": readable, "content": contents}).to_pylist() == rows
    assert predictor({"bytes": contents}).to_pylist() == [
        row | {"path": str(number)} for number, row in enumerate(rows)
    ]
    assert [row["path"] for row in predictor(np.stack([pixels[0]] * 2))] == ["0", "1"]


class _Broken:
    """Says that it is an array, and is none."""

    def __array__(self, *given: object, **options: object) -> np.ndarray:
        raise RuntimeError("not today")


@pytest.mark.parametrize(
    "image",
    [
        b"",
        b"no image",
        None,
        3,
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        np.array(["a.png"]),
        [[1, 2], [3]],
        [[[1, 2, 3]]],
        {"bytes": None, "path": None},
        range(10**12),
        float("nan"),
        10**400,
        _Broken(),
        "gone.jpg",
        "a\0.jpg",
    ],
    ids=type,
)
def test_a_bad_image_of_a_batch_is_a_row(image: object, paths: list[str]):
    """It does not take the others along."""
    first, second = finder()([paths[0], image])
    assert first["class"] == "red"
    assert second["error"]
    assert second["class"] is second["width_px"] is None


@pytest.mark.parametrize("batch", [{}, {"label": [1]}, "a.png", b"", 3, None], ids=repr)
def test_no_batch(batch: object):
    with pytest.raises(ConfigError, match="a batch"):
        finder()(batch)


def test_an_empty_batch_has_no_rows():
    assert finder()([]) == []
    assert len(finder()({"path": []})) == 0
    assert finder()(pandas.DataFrame({"path": []})).dtypes.equals(empty_frame().dtypes)


def test_a_pickled_predictor_is_small_and_gives_the_same_rows(paths: list[str]):
    """The words that name a model, not the model, even after it was loaded."""
    predictor = Predictor("scenes_n", threshold=0.1)
    rows = predictor(paths[:2])
    pickled = pickle.dumps(predictor)
    assert len(pickled) < 1000
    assert pickle.loads(pickled)(paths[:2]) == rows
    sent = pickle.loads(pickle.dumps(predictor.with_weights()))
    assert isinstance(sent.model, torch.nn.Module)
    assert sent(paths[:2]) == rows


def test_the_model_is_loaded_once_in_a_process(paths: list[str], monkeypatch):
    """By whichever copy is called first, and from several threads."""
    from setmatch.bulk import tensor_model

    loads, load_on = [], tensor_model.load_on

    def counted(*values):
        loads.append(values)
        return load_on(*values)

    monkeypatch.setattr(tensor_model, "load_on", counted)
    pickled = pickle.dumps(Predictor("scenes_n"))
    assert loads == []
    threads = [threading.Thread(target=lambda: pickle.loads(pickled)(paths[:1])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    Predictor("scenes_n")(paths[:1])  # made later, when the files may be others
    assert len(loads) == 2


def test_a_model_that_there_is_not_fails_at_the_first_call(paths: list[str]):
    predictor = Predictor("scenes_m")
    with pytest.raises(WeightsError, match="scenes_m"):
        predictor(paths)


def test_the_model_of_the_caller_is_unchanged(paths: list[str]):
    model = RedFinder().train()
    Predictor(model)(paths)
    assert model.training


def test_spark_has_the_types_of_arrow():
    assert SPARK_SCHEMA.startswith("`path` string, `width_px` int, ")
    assert SPARK_SCHEMA.count("`") == 2 * len(COLUMNS)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bytes_obey_the_limit_of_pixels(monkeypatch):
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 - 1)
    (row,) = finder()([file.getvalue()])
    assert "64×64 pixels" in row["error"]


def test_masks_are_rle_that_decodes_to_those_of_predict(paths: list[str]):
    """A model with a mask head; the third image is none."""
    torch.manual_seed(0)
    names = Categories((1, 2), ("red", "blue"))
    card = ModelCard("setmatch_n_panoptic", {}, names, Preprocessing(64, 96))
    model = build(card).eval()
    rows = Predictor(model, threshold=0.0)(paths[:3])
    for path in paths[:2]:
        found = predict(model, path, threshold=0.0)
        own = [row for row in rows if row["path"] == path]
        assert len(own) == len(found) > 0
        for row, detection in zip(own, found, strict=True):
            size = (row["height_px"], row["width_px"])
            runs = {"size": size, "counts": row["mask"].encode("ascii")}
            assert (hotcoco.mask.decode(runs) == detection.mask.numpy()).all()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"threshold": {"a": 1}}, "Predictor: threshold = "),
        ({"classes": 1.5}, "Predictor: classes = 1.5"),
        ({"batch_size": "4"}, "Predictor: batch_size = '4'"),
        ({"batch_size": 1.5}, "Predictor: batch_size = 1.5"),
        ({"overlap": "a"}, "Predictor: overlap = 'a'"),
        ({"tiles": [3]}, "Predictor: tiles = "),
        ({"device": 5}, "Predictor: device = 5"),
        ({"engine": 5}, "Predictor: engine = 5"),
    ],
)
def test_a_choice_of_another_type_is_refused_before_it_travels(
    choices: dict[str, Any], message: str
):
    with pytest.raises(ConfigError, match=message):
        finder(**choices)


def test_columns_of_unequal_length_are_refused():
    pixels = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ConfigError, match="1 of path, but 2 of image"):
        finder()({"path": ["a"], "image": [pixels, pixels]})


@pytest.mark.parametrize("engine", ["x", "onnx"])
def test_an_unknown_engine_of_a_detector_is_refused(engine: str):
    with pytest.raises(ConfigError, match=f"engine {engine}: "):
        finder(engine=engine)([np.zeros((8, 8, 3), np.uint8)])


def test_one_class_needs_no_list():
    """Its name is not taken for a list of letters."""
    pixels = red_box_image(64, 96, (8, 8, 40, 40)).permute(1, 2, 0).contiguous().numpy()
    (row,) = finder(classes="red")([pixels])
    assert row["class"] == "red"
