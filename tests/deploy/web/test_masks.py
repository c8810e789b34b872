"""The page draws masks: here, those of a graph that predicts the same for every image."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from setmatch.deploy.verification.compare_detections import RankedDetections
from setmatch.deploy.web.known_image import KnownImage
from setmatch.deploy.web.runtime import local_runtime
from setmatch.deploy.web.site import write_site
from setmatch.inference.engines.exported_card import ExportedCard
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing
from sites import OpenSite

# In the campaign, because npm fetches 33 MB of runtime.
pytestmark = pytest.mark.campaign

# A PNG file of 8x8 gray pixels.
GRAY = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVR4nGNs"
    "YIAAJgaKGAAmCACQXTClHgAAAABJRU5ErkJggg=="
)
CARD = ExportedCard(
    ModelCard("a_preset", {}, Categories((1, 2), ("left", "right")), Preprocessing(8, 8)),
    *("", {}, 2, True, True, False, 0.5, {}),
)
BOXES = [[0.25, 0.5, 0.5, 1.0], [0.75, 0.5, 0.5, 1.0]]  # the halves of an image
SCORES = [0.9, 0.3]


def constant_graph(path: Path) -> Path:
    """A graph with two detections; the mask of the first one is the upper half of the image."""
    masks = np.full((1, 2, 4, 4), -9, np.float32)
    masks[0, 0, :2] = 9
    values = {
        "cxcywh": np.array([BOXES], np.float32),
        "ranked_scores": np.array([SCORES], np.float32),
        "ranked_classes": np.array([[0, 1]], np.int64),
        "ranked_queries": np.array([[0, 1]], np.int64),
        "mask_logits": masks,
    }
    kinds = {name: helper.np_dtype_to_tensor_dtype(each.dtype) for name, each in values.items()}
    graph = helper.make_graph(
        [helper.make_node("Identity", [f"{name}_"], [name]) for name in values],
        "constant",
        [helper.make_tensor_value_info("pixels", 1, ["B", 3, "H", "W"])],
        [helper.make_tensor_value_info(n, kinds[n], each.shape) for n, each in values.items()],
        [numpy_helper.from_array(each, f"{name}_") for name, each in values.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path


def test_masks_are_drawn_over_the_image(open_site: OpenSite, onnxruntime_web: Path, tmp_path: Path):
    """Those of shown detections alone, in the color of the class."""
    first = RankedDetections(torch.tensor([0.9]), torch.tensor([0]), torch.tensor([[0.0, 0, 4, 8]]))
    known = KnownImage(GRAY, 0.5, first)
    (tmp_path / "site").mkdir()
    graph = constant_graph(tmp_path / "model.onnx")
    write_site(tmp_path / "site", graph, CARD, known, local_runtime(onnxruntime_web))
    opened = open_site(tmp_path / "site")
    assert opened.text("check") == "checked: <0.0001 px"
    opacity = """(y) => {
        const { width, height } = $("boxes");
        return $("boxes").getContext("2d").getImageData(0.75 * width, y * height, 1, 1).data[3];
    }"""
    assert opened.page.evaluate(opacity, 0.25) == pytest.approx(127, abs=10)  # smoothed
    assert opened.page.evaluate(opacity, 0.75) == 0
    opened.page.fill("#threshold", "95")
    assert opened.page.evaluate(opacity, 0.25) == 0
