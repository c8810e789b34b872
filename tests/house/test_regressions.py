"""What others suffered stays found: each of these has a test here that names it."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SUFFERED = {
    "detr #101": "NaN predictions before the matcher",
    "D-FINE #199": "fp16 overflow",
    "rf-detr #431": "matrix contains invalid numeric entries",
    "D-FINE #125": "labels out of range",
    "rf-detr #85": "COCO ids with holes",
    "rf-detr #258": "a head silently initialized anew",
    "yolov5 #409": "an average that begins again on resume",
    "rf-detr #1507": "images that padded the share of a process counted twice",
    "rf-detr #1503": "a loss divided twice by accumulation",
    "mmdet #2153": "parameters without a gradient",
    "pytorch #13246": "memory of workers that grows",
    "rf-detr #1297": "very many targets",
    "rf-detr #189": "EXIF ignored",
    "transformers #25592": "boxes out of the image after augmentation",
    "cocoapi #558": "AP of -1 with other limits than 100",
}


@pytest.fixture(scope="module")
def docstrings() -> list[str]:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in TESTS.rglob("test_*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return [
        ast.get_docstring(node) or ""
        for node in nodes
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


@pytest.mark.parametrize("thread", SUFFERED)
def test_every_regression_has_a_test_that_names_it(docstrings: list[str], thread: str):
    """By repository and thread, in the docstring of the test itself."""
    assert any(f"{thread}:" in text or f"{thread}," in text for text in docstrings), (
        f"no test names {thread} ({SUFFERED[thread]})"
    )
