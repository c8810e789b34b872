"""The command line as a user meets it: exit codes, and one line when something fails."""

import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from setmatch.cli import app, main
from setmatch.models.load import bundled
from setmatch.models.registry import MODELS


def setmatch(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `python -m setmatch` with these arguments to its end, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "setmatch", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
    )


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What a command that is refused says: exit code 2, one line on stderr, nothing on stdout."""
    code = main([*map(str, arguments)])
    said = capsys.readouterr()
    assert (code, said.out) == (2, ""), said.err
    assert said.err.startswith("setmatch: ")
    assert said.err.endswith("\n")
    assert said.err.count("\n") == 1
    assert len(said.err) < 500
    return said.err


VERBS = [name for name in app if not name.startswith("-")]


def test_help_is_quick_and_needs_no_torch():
    """Asking what there is costs a moment, not an import of PyTorch."""
    code = (
        "import sys\nfrom setmatch.cli import main\nassert main(['--help']) == 0\n"
        "import time\n"
        "print('loaded:', {'torch', 'numpy', 'scipy', 'PIL', 'pydantic'} & {*sys.modules})\n"
        "print(time.process_time())"
    )
    seconds = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        *_, loaded, used = done.stdout.splitlines()
        assert loaded == "loaded: set()"
        seconds.append(float(used))
    assert min(seconds) < 0.8  # of the processor's; 0.2 s on an idle core, others wear its caches


def test_every_verb_and_option_is_explained(capsys: pytest.CaptureFixture[str]):
    """`setmatch --help` names every verb, and a verb's own help says what each option is for."""
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert {"train", "evaluate", "predict", "convert-weights", "demo", "models"} <= {*VERBS}
    for verb in VERBS:
        assert verb in overview
        assert main([verb, "--help"]) == 0
        shown = capsys.readouterr().out
        explained = inspect.getdoc(app[verb].default_command) or ""
        for option in app[verb].assemble_argument_collection():
            parameter = option.field_info.name
            assert option.name in shown or option.name.strip("-").upper() in shown
            # Here, or where options are that several verbs share.
            assert bool(option.parameter.help) != (f"\n{parameter}\n    " in explained)


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]):
    """`--version` says what is installed."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == version("setmatch")


def test_models_lists_each_model_with_a_line(capsys: pytest.CaptureFixture[str]):
    """What --model takes can be asked for."""
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*MODELS, *bundled()]
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian", "data"], 'Did you mean "train"?'),
        (["train", "data", "--out", "run", "--weigths", "x"], "Did you mean --weights?"),
        (["train", "data"], "--out"),
        (["train", "--out", "run"], "DATA"),
        (["predict", "a.jpg"], "predict: --model is missing: Published name"),
        (["predict", "a.jpg", "--model"], "predict: --model lacks its value: Published name"),
        (["train", "data", "--out", "run", "--epochs", "many"], "many"),
        (["train", "data", "more", "--out", "run"], "more"),
        (["convert-weights", "a", "b", "--to", "pickle"], "pickle"),
        (["predict", "a.jpg", "--model", "m", "--out", "o", "--threshold", "high"], "high"),
    ],
)
def test_a_mistyped_command_is_answered_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
):
    """No usage page and no traceback: what is wrong, and the nearest right word."""
    assert said in refusal(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "{}/nowhere", "--out", "{}/run"], "nowhere"),
        (["train", "{}", "--out", "{}/run", "--set", "train.lrr=1"], "did you mean lr?"),
        (["train", "{}", "--out", "{}/run", "--recipe", "{}/none.yaml"], "none.yaml"),
        (["evaluate", "{}/nowhere", "{}"], "nowhere"),
        (["predict", "{}/none.jpg", "--model", "{}/nowhere", "--out", "{}/o"], "nowhere"),
        (["convert-weights", "{}/nowhere", "{}/out", "--to", "original"], "nowhere"),
    ],
)
def test_what_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
):
    """A missing file, model, recipe or setting is one line, and nothing is written."""
    filled = [argument.replace("{}", str(tmp_path)) for argument in arguments]
    assert said in refusal(capsys, *filled)
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_it_happened(tmp_path: Path):
    """--debug, anywhere in the line, brings the traceback instead of the sentence."""
    done = setmatch("evaluate", tmp_path / "nowhere", "--debug", "data")
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "WeightsError" in done.stderr


def test_a_reader_that_leaves_is_no_error():
    """`setmatch models | head -1` ends quietly."""
    code = "import sys; from setmatch.cli import main; sys.exit(main(['models']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 141
