"""ONNX Runtime is imported in one place, where its reports are switched off."""

import os
import subprocess
import sys

import pytest

from setmatch.inference.engines.onnx_session import onnxruntime_library

VARIABLE = "ORT_DISABLE_TELEMETRY"


@pytest.mark.parametrize(("given", "used"), [(None, "1"), ("0", "0"), ("1", "1")])
def test_reports_are_off_unless_the_user_wants_them(
    monkeypatch: pytest.MonkeyPatch, given: str | None, used: str
):
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)
    if given is not None:
        monkeypatch.setenv(VARIABLE, given)
    onnxruntime_library("this")
    assert os.environ[VARIABLE] == used


def test_nothing_is_written_to_the_home_folder(tmp_path):
    """ONNX Runtime writes an identifier of the machine there, for its reports."""
    code = (
        "from setmatch.inference.engines.onnx_session import onnxruntime_library\n"
        "onnxruntime_library('this').SessionOptions()"
    )
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    homes = {name: str(tmp_path) for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    subprocess.run([sys.executable, "-c", code], env=environment | homes, check=True)
    assert list(tmp_path.iterdir()) == []
