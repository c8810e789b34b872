"""The lines of C++ in the documentation detect what setmatch detects."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import openvino
import pytest
from PIL import Image

import setmatch as sm
from setmatch.data.synthetic.scenes import scene
from setmatch.models.detector import Detector

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "export.md"


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_the_lines_of_the_documentation_run_in_cpp(
    scenes_n: Detector, scenes_xml: Path, tmp_path: Path
):
    """In the campaign, because few machines have a compiler; built by the line beside them."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++ to compile C++")
    page = PAGE.read_text("utf-8")
    program = re.search(r"```cpp\n(// detect\.cpp\n.*?)```", page, re.DOTALL)
    build = re.search(r"^g\+\+ .*$", page, re.MULTILINE)
    assert program is not None
    assert build is not None
    (tmp_path / "detect.cpp").write_text(program[1], encoding="utf-8")
    place = {"openvino": str(Path(openvino.__file__).parent)}
    subprocess.run(["sh", "-c", build[0]], cwd=tmp_path, check=True, env={**os.environ, **place})
    image = scene((1, 0), 300).pixels[:200]
    Image.fromarray(image).save(tmp_path / "street.ppm")
    done = subprocess.run(
        ["./detect", str(scenes_xml), "street.ppm"],
        cwd=tmp_path, check=True, capture_output=True, text=True,
    )  # fmt: skip
    rows = [[float(value) for value in line.split()] for line in done.stdout.splitlines()]
    expected = sm.predict(scenes_n, image, threshold=0.3)
    assert len(rows) == len(expected) > 0
    for row, one in zip(rows, expected, strict=True):
        assert row[0] == one.class_index
        assert np.allclose(row[1:], [one.score, *one.xyxy_px], atol=0.2)
