"""The command line: help, exit codes, and one line for every error."""

import errno
import inspect
import json
import logging
import os
import subprocess
import sys
from importlib.metadata import version
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from PIL import Image

from setmatch.cli import app, main
from setmatch.errors import WeightsError
from setmatch.models.load import bundled
from setmatch.models.registry import MODELS


def error_line(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Return the error of a command that must fail: exit code 2, one line, only on stderr."""
    code = main([*map(str, arguments)])
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, ""), printed.err
    assert printed.err.startswith("setmatch: ")
    assert printed.err.endswith("\n")
    assert printed.err.count("\n") == 1
    assert len(printed.err) < 500
    return printed.err


VERBS = [name for name in app if not name.startswith("-")]


def test_help_is_fast_and_does_not_import_torch():
    code = (
        "import sys\nfrom setmatch.cli import main\nassert main(['--help']) == 0\n"
        "print('loaded:', {'torch', 'numpy', 'scipy', 'PIL', 'pydantic'} & {*sys.modules})\n"
        "print(len(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    *_, loaded, modules = done.stdout.splitlines()
    assert loaded == "loaded: set()"
    assert int(modules) < 500  # torch alone brings 1,500


def test_every_verb_and_option_is_explained(capsys: pytest.CaptureFixture[str]):
    """`setmatch --help` lists every verb, and a verb's own help explains each option."""
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert {"train", "evaluate", "predict", "convert-weights", "demo", "models"} <= {*VERBS}
    for verb in VERBS:
        assert verb in overview
        assert main([verb, "--help"]) == 0
        shown = capsys.readouterr().out
        explained = inspect.getdoc(app[verb].default_command) or ""
        usage, *_ = shown.splitlines()
        assert "ARGS" not in usage  # but the name that the arguments have below
        for option in app[verb].assemble_argument_collection():
            parameter = option.field_info.name
            assert option.name in shown or option.name.strip("-").upper() in shown
            assert option.index is None or option.name.strip("-").upper() in usage
            # Explained in the verb's docstring, or in options.py for options that verbs share.
            assert bool(option.parameter.help) != (f"\n{parameter}\n    " in explained)


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == version("setmatch")


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "; make room, or choose another disk, and give the same command again"),
        (errno.EROFS, "; choose another disk"),
        (errno.EACCES, "; change its permissions, or choose another"),
        (errno.EIO, ""),
    ],
)
def test_an_error_of_the_system_says_what_to_do(capsys, monkeypatch, number: int, advice: str):
    def fail() -> list[str]:
        raise OSError(number, os.strerror(number), "a/b.json")

    monkeypatch.setattr("setmatch.models.listing.available_models", fail)
    assert error_line(capsys, "models") == f"setmatch: a/b.json: {os.strerror(number)}{advice}\n"


def test_models_lists_every_model_in_one_line(capsys: pytest.CaptureFixture[str]):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*MODELS, *bundled()]
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian", "data"], "did you mean train?"),
        (["train", "data", "--out", "run", "--weigths", "x"], "did you mean --weights?"),
        (["train", "data"], "--out"),
        (["train", "--out", "run"], "DATA"),
        (["predict", "--out", "o"], "predict: MODEL is missing: Trained model"),
        (["predict", "a.jpg", "--model"], "predict: --model needs a value"),
        (["train", "data", "--out", "run", "--epochs", "many"], "many"),
        (["train", "data", "more", "--out", "run"], "more"),
        (["convert-weights", "a", "b", "--to", "pickle"], "pickle"),
        (["predict", "a.jpg", "--model", "m", "--out", "o", "--threshold", "high"], "high"),
    ],
)
def test_a_mistyped_command_gives_one_line_with_the_nearest_word(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    """No usage page and no traceback."""
    assert message in error_line(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "{}/nowhere", "--out", "{}/run"], "nowhere"),
        (["train", "{}", "--out", "{}/run", "--set", "train.lrr=1"], "did you mean train.lr?"),
        (["train", "{}", "--out", "{}/run", "--recipe", "{}/none.yaml"], "none.yaml"),
        (["evaluate", "{}/nowhere", "{}"], "nowhere"),
        (["predict", "{}/none.jpg", "--model", "{}/nowhere", "--out", "{}/o"], "nowhere"),
        (["convert-weights", "{}/nowhere", "{}/out", "--to", "original"], "nowhere"),
    ],
)
def test_a_missing_file_model_recipe_or_setting_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    """In one line, and nothing is written."""
    filled = [argument.replace("{}", str(tmp_path)) for argument in arguments]
    assert message in error_line(capsys, *filled)
    assert list(tmp_path.iterdir()) == []


def test_notes_on_the_data_are_printed_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """As here, that validation images are held out of the training images."""
    images = [{"id": k, "file_name": f"{k}.png", "width": 16, "height": 16} for k in range(1, 13)]
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81}
    tree = {
        "images": images,
        "annotations": [box | {"id": k, "image_id": k} for k in range(1, 13)],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_text(json.dumps(tree))
    (tmp_path / "images").mkdir()
    for image in images:
        Image.new("RGB", (16, 16)).save(tmp_path / "images" / str(image["file_name"]))
    (tmp_path / "none.json").write_text("[]")
    monkeypatch.setattr(logging.root, "handlers", [])  # as in a process without pytest
    code = main(["evaluate", str(tmp_path / "none.json"), str(tmp_path)])
    printed = capsys.readouterr().err
    assert code == 0, printed
    assert printed.startswith("setmatch: no validation split: ")
    assert "12 training images is held out" in printed


def test_debug_shows_the_traceback(tmp_path: Path):
    """Anywhere in the command line; the interpreter shows what `main` raises."""
    with pytest.raises(WeightsError, match="nowhere"):
        main(["evaluate", str(tmp_path / "nowhere"), "--debug", "data"])


@pytest.mark.parametrize("value", ["", "many", "-1", "0", "1.5"])
def test_a_limit_of_pixels_that_is_no_number_is_refused(
    capsys: pytest.CaptureFixture[str], value: str
):
    assert "pixel" in error_line(capsys, "models", "--max-pixels", value)


@pytest.mark.parametrize("given", [["--max-pixels", "5999"], ["--max-pixels=5999"]])
def test_the_limit_of_pixels_is_a_setting_of_every_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
):
    """With a higher limit than the image has pixels, there is no error to name it."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    monkeypatch.setenv("SETMATCH_MAX_PIXELS", "")
    Image.new("RGB", (100, 60)).save(tmp_path / "large.png")
    arguments = ["predict", "scenes_n", str(tmp_path / "large.png"), "--out", str(tmp_path / "out")]
    assert main([*arguments, *given]) == 2
    refused = capsys.readouterr().err
    assert "(100×60 pixels, width × height; the limit is 5,999 pixels); make it" in refused
    assert main([*arguments, "--max-pixels", "6000"]) == 0


def test_a_name_that_the_terminal_cannot_show_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """All work is done when the name of the results folder is printed."""
    out = tmp_path / os.fsdecode(b"caf\xe9")
    Image.new("RGB", (100, 60)).save(tmp_path / "a.png")
    written = BytesIO()
    with TextIOWrapper(written, encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert main(["predict", "scenes_n", str(tmp_path / "a.png"), "--out", str(out)]) == 0
        printed = written.getvalue().decode()
    assert "written to " in printed
    assert r"caf\udce9" in printed


def test_a_closed_output_pipe_is_not_an_error():
    """As in `setmatch models | head -1`; the exit code is 141.

    The command is one that prints and imports nothing.
    """
    code = (
        "import sys; from setmatch.cli import app, main; app.command(lambda: print(1), name='one');"
        " sys.exit(main(['one']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 141


@pytest.mark.parametrize(
    ("verb", "rest"),
    [
        ("evaluate", ["data"]),
        ("predict", ["a.jpg", "b.jpg", "--out", "o"]),
        ("explain", ["a.jpg", "--out", "o.html"]),
        ("queries", ["data", "--out", "o"]),
        ("convert-weights", ["d.pth", "--to", "original"]),
    ],
)
@pytest.mark.parametrize(
    ("place", "model"),
    [
        (0, ["nowhere"]),
        *((place, ["--model", "nowhere"]) for place in (0, 1, 99)),
        (1, ["--model=nowhere"]),
    ],
)
def test_every_verb_takes_the_model_first_or_as_an_option(
    tmp_path, monkeypatch, capsys, verb, rest, place, model
):
    """However it is written, the model is what cannot be found."""
    monkeypatch.chdir(tmp_path)
    line = error_line(capsys, verb, *rest[:place], *model, *rest[place:])
    assert line.startswith("setmatch: nowhere: no such file or folder")


def test_predict_without_images_says_so(tmp_path, capsys):
    line = error_line(capsys, "predict", "scenes_n", "--out", tmp_path)
    assert "predict: SOURCES is missing: Image and video files" in line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_options(shell):
    script = app.generate_completion(shell=shell)
    assert all(verb in script for verb in VERBS)
    assert "segment-threshold" in script
    assert "--install-completion" in app
