"""Every engine predicts as the model, at a dozen sizes and three batches."""

from pathlib import Path

import onnx
import pytest

from setmatch.deploy.formats.base import ExportFormat
from setmatch.deploy.formats.onnx import OnnxGraph
from setmatch.deploy.formats.openvino import converted
from setmatch.deploy.formats.traced import single_on_cpu
from setmatch.deploy.load import KINDS
from setmatch.deploy.verification.verify import images_to_verify, verify
from setmatch.models.detector import Detector

SIZES_PX = [(32, 32), (33, 64), (64, 47), (96, 96), (97, 131), (128, 200), (160, 160), (200, 90),
            (240, 320), (321, 250), (320, 427), (480, 640)]  # fmt: skip


def write(kind: ExportFormat, detector: Detector, scenes_onnx: Path, path: Path) -> None:
    """Write a file for any size; those that come from the ONNX graph need no second one."""
    if kind.suffix == ".pt2":
        kind.build(single_on_cpu(detector), None, False).save(path)
        return
    graph = OnnxGraph(onnx.load(scenes_onnx), None)
    (converted(graph) if kind.suffix == ".xml" else graph).save(path)


@pytest.mark.campaign
@pytest.mark.promise(17, cases=36)
@pytest.mark.timeout(3600)
def test_graphs_for_single_shapes_equal_the_model(
    scenes_n: Detector, scenes_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """OpenVINO compiles each size and batch by itself, as it does shapes that come often."""
    monkeypatch.setattr("setmatch.inference.engines.openvino_graphs.OFTEN", 1)
    monkeypatch.setattr("setmatch.inference.engines.openvino_graphs.MOST_OWN", 36)
    test_twelve_sizes_and_three_batches_equal_the_model(scenes_n, scenes_onnx, tmp_path, "openvino")


@pytest.mark.campaign
@pytest.mark.promise(17, cases=36)
@pytest.mark.timeout(3600)  # compiling alone takes minutes
@pytest.mark.parametrize("engine", KINDS)
def test_twelve_sizes_and_three_batches_equal_the_model(
    scenes_n: Detector, scenes_onnx: Path, tmp_path: Path, engine: str
):
    """Every detection is found again within 0.001 pixels of eager float32."""
    kind = KINDS[engine]
    path = tmp_path / f"model{kind.suffix}"
    write(kind, scenes_n, scenes_onnx, path)
    opened = kind.open(path)
    checks = verify(
        scenes_n,
        opened.predict,
        opened.card.preprocessing,
        images_to_verify(None),
        str,
        sizes_px=SIZES_PX,
    )
    assert len(checks) == 36
    assert all(each.difference.compared >= 10 * each.batch for each in checks)
