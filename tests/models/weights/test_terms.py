"""Licenses: shown once, stated by a hub's README, accepted for the time of a call."""

import logging
from pathlib import Path

import pytest
import torch

import setmatch
from setmatch.errors import WeightsError
from setmatch.files.reading import sha256_of
from setmatch.models.load import save
from setmatch.models.registry import build
from setmatch.models.weights import terms
from setmatch.models.weights.downloads.download import PublishedCheckpoint
from setmatch.models.weights.layouts.hub_folder import stated_license
from setmatch.structures.metadata import Categories, ModelCard


def test_the_license_of_published_weights_is_shown_the_first_time(
    tmp_path: Path, monkeypatch, caplog
):
    monkeypatch.setenv("SETMATCH_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    shape = {"dim": 32, "heads": 4, "ffn_dim": 48, "encoder_layers": 1, "decoder_layers": 1}
    model = build(ModelCard("detr_r50", shape, Categories((1, 2), ("cat", "dog"))))
    save(model, tmp_path / "ours")
    setmatch.models.convert_weights(tmp_path / "ours", tmp_path / "made.pth", "original")
    made = tmp_path / f"detr-r50-{sha256_of(tmp_path / 'made.pth')[:8]}.pth"
    (tmp_path / "made.pth").rename(made)
    stand_in = PublishedCheckpoint(made.as_uri(), "Apache-2.0")
    monkeypatch.setitem(setmatch.models.detr.checkpoint.PUBLISHED, "detr_r50", stand_in)
    with caplog.at_level(logging.WARNING, "setmatch"):
        setmatch.load("detr_r50")
        assert caplog.text.count("detr_r50: their license is Apache-2.0") == 1
        setmatch.load("detr_r50")
    assert caplog.text.count("license") == 1


@pytest.mark.parametrize("license", ["MIT", "unknown", "objects365", "a\nlicense\x1b"])
def test_a_license_is_one_line(license: str, tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setenv("SETMATCH_CACHE", str(tmp_path))
    with caplog.at_level(logging.WARNING, "setmatch"):
        for _ in range(2):
            terms.show_license_once("someone/model", license)
    (record,) = caplog.records
    assert record.getMessage().isprintable()


def test_a_license_is_shown_each_time_where_nothing_can_be_remembered(
    tmp_path: Path, monkeypatch, caplog
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SETMATCH_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "setmatch"):
        for _ in range(2):
            terms.show_license_once("detr_r50", "MIT")
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("readme", "license"),
    [
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# Model", "Apache-2.0"),
        ("---\r\nlicense: cc-by-nc-4.0\r\n---\r\n", "cc-by-nc-4.0"),
        ("---\nlicense: other\nlicense_name: dinov3\n---\n", "dinov3"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\ntags: [a]\n---\n", None),
        ("---\nlicense: [a, b]\n---\n", None),
        ("---\nlicense: 3\n", None),
        ("---\n: : [\n---\n", None),
        ("license: mit", None),
        ("", None),
    ],
)
def test_a_hub_repository_states_its_license(readme: str, license: str | None, tmp_path: Path):
    (tmp_path / "README.md").write_text(readme, newline="")
    assert stated_license(tmp_path) == license


def test_a_repository_without_a_readme_states_none(tmp_path: Path):
    assert stated_license(tmp_path) is None


def test_terms_are_accepted_for_the_time_of_a_call():
    with terms.accepting("objects365"):
        terms.require_accepted(terms.OBJECTS365, "weights", None)
        with terms.accepting("objects365"):
            pass
        terms.require_accepted(terms.OBJECTS365, "weights", None)
    with pytest.raises(WeightsError, match="accept_license"):
        terms.require_accepted(terms.OBJECTS365, "weights", None)
    with pytest.raises(WeightsError, match="objects365"), terms.accepting("objects"):
        pass
