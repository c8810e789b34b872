"""Every command that writes a file where the user asked for it says so."""

import json
from pathlib import Path

import pytest
from PIL import Image

from setmatch.cli import main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81}
    tree = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
        "annotations": [box],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "val.json").write_text(json.dumps(tree))
    (tmp_path / "found.json").write_text(json.dumps([box | {"score": 0.5}]))
    return tmp_path


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ("evaluate found.json val.json --split all", {"--json": "m.json", "--report": "r.html"}),
        ("audit val.json", {"--json": "a.json", "--html": "a.html"}),
        ("compare found.json --data val.json --split all", {"--html": "c.html"}),
    ],
)
def test_written_files_are_named(data, monkeypatch, capsys, command: str, files: dict[str, str]):
    monkeypatch.chdir(data)
    options = [word for option in files.items() for word in option]
    assert main([*command.split(), *options]) in (0, 1)
    said = capsys.readouterr().out
    assert f"written to {', '.join(files.values())}\n" in said
    assert all((data / file).is_file() for file in files.values())
    main(command.split())
    assert "written to" not in capsys.readouterr().out
