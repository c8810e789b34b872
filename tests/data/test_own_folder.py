"""Results are not written among the files of a data set."""

from pathlib import Path

import pytest

from setmatch.data.own_folder import require_own_folder
from setmatch.errors import ConfigError
from small_voc import write

FILES = {
    "images/train/a.png": "",
    "labels/train/a.txt": "0 0.5 0.5 0.1 0.1\n",
    "annotations/train.json": "{}",
    "test/b.png": "",
    "data.yaml": "names: [dog]\ntrain: images/train\n",
}


@pytest.mark.parametrize("data", [".", "data.yaml", "annotations/../data.yaml"])
@pytest.mark.parametrize(
    "out",
    [
        *(".", "images", "images/train", "images/run", "labels/runs/first", "annotations"),
        *("test", "test/../images", "link", "Link/../images"),
    ],
)
def test_places_of_the_data_are_refused(tmp_path: Path, data: str, out: str):
    root = write(tmp_path / "set", FILES)
    (root / "link").symlink_to(root / "images")
    with pytest.raises(ConfigError, match=r"belongs to the data set .*; name a folder of its own"):
        require_own_folder(root / data, root / out)


@pytest.mark.parametrize("data", [".", "data.yaml", "absent"])
@pytest.mark.parametrize(
    "out",
    ["runs", "runs/first", "..", "../runs", "val", "train/run", "results.train", "other/images"],
)
def test_other_places_are_not(tmp_path: Path, data: str, out: str):
    root = write(tmp_path / "set", FILES)
    require_own_folder(root / data, root / out)
    (root / "train" / "run").mkdir(parents=True)  # that of a run, not of images
    (root / "train" / "run" / "recipe.yaml").write_text("")
    require_own_folder(root / data, root / out)
