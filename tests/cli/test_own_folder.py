"""Commands with --out and a data set refuse to write among its files, before any work."""

from collections.abc import Callable
from pathlib import Path

import pytest

from setmatch.ablation.run import ablate
from setmatch.cli.queries import queries
from setmatch.data.audit.fix import write_fixed
from setmatch.data.convert import convert_dataset
from setmatch.data.discovery import discover_dataset
from setmatch.errors import ConfigError, DataError
from setmatch.training.train import train
from setmatch.tuning.search import tune
from small_voc import DOG, write, xml

COMMANDS: dict[str, Callable[[Path, Path], object]] = {
    "train": lambda data, out: train(data, "setmatch_n", out=out, minutes=0.01),
    "tune": lambda data, out: tune(data, "setmatch_n", out=out, trials=1),
    "ablate": lambda data, out: ablate("all", out=out, data=data),
    "queries": lambda data, out: queries("scenes_n", str(data), out=out),
    "convert-data": lambda data, out: convert_dataset(data, out, to="coco"),
    "audit --fix": lambda data, out: write_fixed(data, discover_dataset(data), out),
}


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("out", [".", "images/results", "Annotations"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_leaves_the_folders_of_its_data_alone(tmp_path: Path, command: str, out: str):
    """Checkpoints, pages and images lay among the data before, and were read as such."""
    root = write(tmp_path / "set", {"Annotations/a.xml": xml(DOG), "images/a.png": ""})
    before = names(root)
    with pytest.raises((ConfigError, DataError), match=r"belongs to|replace the originals|exists"):
        COMMANDS[command](root, root / out)
    assert names(root) == before
