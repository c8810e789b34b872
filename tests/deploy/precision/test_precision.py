"""Files of lower precision are measured on the user's data, and refused if they lose too much."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

import setmatch.deploy.web.export as web
from setmatch.cli import main
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.deploy.export import export
from setmatch.deploy.formats.base import ExportFormat
from setmatch.deploy.formats.onnx import ONNX, OnnxGraph
from setmatch.deploy.formats.openvino import OPENVINO
from setmatch.deploy.precision.precision import Lower, LowerPrecision, Precision, PrecisionLoss
from setmatch.deploy.precision.training_images import training_images
from setmatch.errors import ConfigError, DataError, ExtraMissingError, VerificationError
from setmatch.inference.engines.onnxruntime import OnnxRuntimeEngine
from setmatch.inference.engines.openvino_session import read_model
from setmatch.models.detector import Detector


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    write_scenes(folder, 4, 6, 128, 0, 0)
    return folder


def rewritten(path: Path, data: Path, precision: Precision, kind: ExportFormat) -> PrecisionLoss:
    """Rewrite a file in a lower precision, and return the loss of AP."""
    training, validation = (open_dataset(data, split) for split in ("train", "val"))
    lower = LowerPrecision(precision, training, validation, 5.0)
    return lower.rewrite(path, kind.precisions[precision], kind.open)


def test_convolutions_in_int8_lose_little(scenes_onnx: Path, data: Path, tmp_path: Path):
    """End to end too; all other weights are stored in int8, and the card stays."""
    path = tmp_path / "model.onnx"
    path.write_bytes(scenes_onnx.read_bytes())

    loss = rewritten(path, data, "int8", ONNX)
    assert loss.before > 10
    assert abs(loss.points) < 5
    assert path.stat().st_size < 0.4 * scenes_onnx.stat().st_size
    kinds = [each.op_type for each in onnx.load(path).graph.node]
    assert kinds.count("QuantizeLinear") >= kinds.count("Conv") > 0
    assert OnnxRuntimeEngine(path).card == OnnxRuntimeEngine(scenes_onnx).card
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("precision", "share"),
    [
        pytest.param("int8", 0.45, marks=pytest.mark.thorough),  # ONNX Runtime's is tested always
        pytest.param("half", 0.55, marks=pytest.mark.campaign),
    ],
)
def test_openvino_loses_little(
    scenes_xml: Path, data: Path, tmp_path: Path, precision: Precision, share: float, capfd
):
    """End to end too: convolutions compute in int8, and nothing else does; the card stays."""
    path = tmp_path / "model.xml"
    for each in (path, path.with_suffix(".bin")):
        each.write_bytes(scenes_xml.with_suffix(each.suffix).read_bytes())
    loss = rewritten(path, data, precision, OPENVINO)
    assert capfd.readouterr() == ("", "")
    assert loss.before > 10
    assert abs(loss.points) < 5
    sizes = [each.with_suffix(".bin").stat().st_size for each in (path, scenes_xml)]
    assert sizes[0] < share * sizes[1]
    model, card = read_model(path)
    assert card == read_model(scenes_xml)[1]
    operations = model.get_ops()
    in_int8 = [each for each in operations if each.get_type_name() == "FakeQuantize"]
    convolutions = [each for each in operations if each.get_type_name() == "Convolution"]
    assert (len(in_int8) >= len(convolutions) / 2) == (precision == "int8")
    users = {each.get_node().get_type_name() for one in in_int8 for each in targets(one)}
    assert users <= {"Convolution", "ConvolutionBackpropData", "ShapeOf"}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.bin", "model.xml"]


def targets(operation: Any) -> Iterator[Any]:
    """What uses the results of an operation."""
    return (user for result in operation.outputs() for user in result.get_target_inputs())


def test_without_nncf_the_extra_is_named(
    scenes_n: Detector, data: Path, tmp_path: Path, monkeypatch
):
    """At once, and no file is left."""
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ExtraMissingError, match=r"needs nncf; .*setmatch\[nncf\]"):
        export(scenes_n, tmp_path / "a.xml", precision="int8", data=data)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_a_page_in_int8_is_small(
    scenes_onnx: Path, data: Path, tmp_path: Path, monkeypatch, capsys
):
    """Page and model together take less than 2 MB; what it costs in AP is said."""
    graph = OnnxGraph(onnx.load(scenes_onnx), None)
    monkeypatch.setattr(web, "to_onnx", lambda *others, **named: graph)
    arguments = ["--to", "web", "--out", str(tmp_path / "site"), "--int8", "--data", str(data)]
    assert main(["export", "scenes_n", *arguments, "--tolerance", "5"]) == 0
    assert "lower precision: AP " in capsys.readouterr().out
    page = tmp_path / "site" / "index.html"
    assert page.stat().st_size < 2_000_000
    assert ".asyncify.wasm" not in page.read_text("utf-8")  # WebGPU, which has no int8


def test_a_file_that_loses_too_much_is_refused(
    scenes_onnx: Path, data: Path, tmp_path: Path, monkeypatch, capsys
):
    """Exit code 2, one line with both numbers, and no file."""
    graph = OnnxGraph(onnx.load(scenes_onnx), None)
    monkeypatch.setattr(web, "to_onnx", lambda *others, **named: graph)

    def ruin(path: Path, images) -> None:
        model = onnx.load(path)
        for each in model.graph.initializer:
            if each.data_type == 1 and len(each.dims) == 4:
                each.raw_data = bytes(len(each.raw_data))
        onnx.save(model, path)

    monkeypatch.setitem(ONNX.precisions, "half", Lower(ruin))
    arguments = ["--to", "web", "--out", str(tmp_path / "site"), "--half", "--data", str(data)]
    assert main(["export", "scenes_n", *arguments, "--tolerance", "5"]) == 2
    assert "in half), more than the tolerance of 5; export" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [{"path": "a.onnx"}, {"path": "a.xml"}, {"to": "web"}])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"tolerance": -1.0}, ConfigError, "tolerance -1: .* give 0 or more"),
        ({"tolerance": float("nan")}, ConfigError, "tolerance nan: .* give 0 or more"),
        ({"names": ("car", "bus")}, DataError, "val.json: no class in common with the model"),
        ({"boxes": []}, DataError, "val.json: none of its 6 images has an annotated object"),
    ],
    ids=["negative", "nan", "classes", "empty"],
)
def test_a_loss_that_says_nothing_is_refused_at_once(
    scenes_n: Detector, data: Path, tmp_path: Path, kind, change: dict, error, message: str
):
    """No file meets such a tolerance, and AP of no object, or of other classes, is no measure."""
    own = shutil.copytree(data, tmp_path / "data")
    path = own / "annotations" / "val.json"
    tree = json.loads(path.read_text("utf-8"))
    tree["annotations"] = change.get("boxes", tree["annotations"])
    for category, name in zip(tree["categories"], change.get("names", ())):
        category["name"] = name
    tree["categories"] = tree["categories"][: len(change.get("names", tree["categories"]))]
    known = {each["id"] for each in tree["categories"]}
    tree["annotations"] = [each for each in tree["annotations"] if each["category_id"] in known]
    path.write_text(json.dumps(tree), "utf-8")
    given = {"path": "out", "tolerance": change.get("tolerance", 1.0), **kind}
    with pytest.raises(error, match=message):
        export(scenes_n, **{**given, "path": tmp_path / given["path"]}, precision="half", data=own)
    assert [each.name for each in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"precision": "int8"}, ConfigError, "int8 needs data: it is calibrated on training"),
        ({"precision": "half"}, ConfigError, "half needs data"),
        ({"precision": "half", "data": "nothing"}, DataError, "nothing"),
        ({"data": "nothing"}, ConfigError, "data nothing: is for lower precision; add --half"),
        ({"precision": "int8", "path": "a.xml"}, ConfigError, "int8 needs data"),
        ({"precision": "int8", "path": "a.pt2"}, ConfigError, "int8 is not there for this format"),
        ({"precision": "int8", "to": "web", "path": "site"}, ConfigError, "int8 needs data"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(
    scenes_n: Detector, tmp_path: Path, monkeypatch, arguments: dict, error, message: str
):
    """Before the model is traced, which takes long; nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        export(scenes_n, **{"path": "a.onnx", **arguments})
    assert list(tmp_path.iterdir()) == []


def damaged(folder: Path, split: str, left: int) -> None:
    """Damage all images of a split but the last ones."""
    names = [each["file_name"] for each in coco_of(folder, split)["images"]]
    for name in names[: len(names) - left]:
        (path,) = folder.rglob(Path(name).name)
        path.write_bytes(b"damaged")


def coco_of(folder: Path, split: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"annotations/{split}.json").read_text())
    return found


@pytest.mark.parametrize("left", [1, 3, 4])
def test_other_images_calibrate_for_unreadable_ones(data: Path, tmp_path: Path, left: int):
    shutil.copytree(data, tmp_path / "data")
    damaged(tmp_path / "data", "train", left)
    dataset = open_dataset(tmp_path / "data", "train")
    assert len(list(training_images(dataset))) == left


def test_int8_without_a_readable_training_image_is_refused_at_once(
    scenes_n: Detector, data: Path, tmp_path: Path
):
    shutil.copytree(data, tmp_path / "data")
    damaged(tmp_path / "data", "train", 0)
    with pytest.raises(DataError, match="none of its images can be read to calibrate on; the fi"):
        export(scenes_n, tmp_path / "a.onnx", precision="int8", data=tmp_path / "data")
    assert [each.name for each in tmp_path.iterdir()] == ["data"]


def test_a_model_without_ap_has_none_to_lose(scenes_onnx: Path, data: Path, tmp_path: Path):
    """Here all objects are where it detects none: nothing would be measured."""
    shutil.copytree(data, tmp_path / "data")
    tree = coco_of(tmp_path / "data", "val")
    for each in tree["annotations"]:
        each |= {"bbox": [0, 0, 3, 3], "area": 9}
    (tmp_path / "data/annotations/val.json").write_text(json.dumps(tree))
    path = tmp_path / "model.onnx"
    path.write_bytes(scenes_onnx.read_bytes())
    with pytest.raises(VerificationError, match="half: AP is 0 in float32 already"):
        rewritten(path, tmp_path / "data", "half", ONNX)


def test_one_precision_is_chosen(capsys: pytest.CaptureFixture[str]):
    assert main(["export", "scenes_n", "--out", "a.onnx", "--half", "--int8"]) == 2
    assert "--half --int8: choose one of them" in capsys.readouterr().err
