"""ONNX Runtime, as setmatch imports it."""

import os
import subprocess
import sys

from setmatch.usage_reports import SWITCHES


def test_nothing_is_written_to_the_home_folder(tmp_path):
    """ONNX Runtime writes an identifier of the machine there, for its reports."""
    code = (
        "from setmatch.inference.engines.onnx_session import onnxruntime_library\n"
        "onnxruntime_library('this').SessionOptions()"
    )
    environment = {
        key: value for key, value in os.environ.items() if key != SWITCHES["onnxruntime"][0]
    }
    homes = {name: str(tmp_path) for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    subprocess.run([sys.executable, "-c", code], env=environment | homes, check=True)
    assert list(tmp_path.iterdir()) == []
