"""The lines of JavaScript in the documentation detect what setmatch detects."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import setmatch as sm
from setmatch.data.synthetic.scenes import scene
from setmatch.models.detector import Detector

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "export.md"
PACKAGES = ("onnxruntime-node@1", "sharp@0")


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_the_lines_of_the_documentation_run_in_node(
    scenes_n: Detector, scenes_onnx: Path, tmp_path: Path
):
    """In the campaign, because two packages of 300 MB are fetched."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("needs Node and npm to run JavaScript")
    found = re.search(
        r"```javascript\n(// detect\.mjs\n.*?)```", PAGE.read_text("utf-8"), re.DOTALL
    )
    assert found is not None
    (tmp_path / "detect.mjs").write_text(found[1], encoding="utf-8")
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
    subprocess.run(install, cwd=tmp_path, check=True, capture_output=True)
    image = scene((1, 0), 300).pixels
    Image.fromarray(image).save(tmp_path / "street.png")
    done = subprocess.run(
        [node, "detect.mjs", str(scenes_onnx), "street.png"],
        cwd=tmp_path, check=True, capture_output=True, text=True,
    )  # fmt: skip
    rows = [[float(value) for value in line.split()] for line in done.stdout.splitlines()]
    expected = sm.predict(scenes_n, image, threshold=0.3)
    assert len(rows) == len(expected) > 0
    for row, one in zip(rows, expected):
        assert row[0] == one.class_index
        assert np.allclose(row[1:], [one.score, *one.xyxy_px], atol=0.2)
