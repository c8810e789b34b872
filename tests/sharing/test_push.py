"""`push`: all or nothing arrives on the hub, and `load` finds it there."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard as HubCard

import setmatch as sm
from hub_stand_in import HubStandIn, refusal, replace_hub_client
from setmatch.cli import main
from setmatch.errors import ConfigError, SetmatchError, UnreachableError, WeightsError
from setmatch.models.load import save
from setmatch.models.registry import build
from setmatch.sharing.facts import read_metrics
from setmatch.sharing.license import choose_license
from setmatch.sharing.push import push
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing
from setmatch.training.checkpoints.best import keep_if_best
from setmatch.training.run_folder import DATA_REPORT

SMALL = {"dim": 32, "heads": 4, "ffn_dim": 32, "num_queries": 5, "decoder_layers": 1}
PETS = Categories((3, 7), ("cat", "dog"))
CARD = ModelCard(
    "setmatch_n",
    SMALL,
    PETS,
    Preprocessing(64, 96),
    license="Apache-2.0",
    source="trained by setmatch on pets, from scenes_n",
)
METRICS = {
    "AP": 0.41237,
    "AP50": 0.75,
    "APs": None,
    "per_class": {
        "cat": {"AP": 0.2, "AP50": 0.6, "boxes": 40},
        "dog": {"AP": 0.6247, "AP50": 0.9, "boxes": 3},
    },
    "thresholds": {"cat": 0.25},
}
FILES = ("README.md", "model.json", "model.safetensors")
NAME = "anna/pets"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a run that has been evaluated."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    torch.manual_seed(0)
    keep_if_best(folder, build(CARD), METRICS, 1200)
    counts = {
        "train": {"images": 90, "classes": {"cat": 70, "dog": 1234}},
        "val": {"images": 20, "classes": {"cat": 40, "dog": 3}},
    }
    (folder / DATA_REPORT).write_text(json.dumps({"splits": counts}))
    return folder


@pytest.fixture(scope="module")
def model(run):
    """The detector of that run, for tests in which it does not matter where it is from."""
    return sm.load(run)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> HubStandIn:
    return replace_hub_client(tmp_path / "hub", monkeypatch)


def with_card(tmp_path: Path, **changes: object) -> Path:
    """A folder with the weights of a model whose card has these values."""
    save(build(ModelCard(**{**vars(CARD), **changes})), tmp_path / "model")
    return tmp_path / "model"


def test_what_was_pushed_loads_by_its_name(run, hub):
    """The same weights, classes and thresholds; all files in the one commit of a new repository."""
    pushed = push(run, NAME)
    assert pushed.files == FILES
    assert hub.commits == [FILES]
    assert hub.private == {NAME: False}
    loaded, trained = sm.load(NAME), sm.load(run)
    assert loaded.card == trained.card
    assert loaded.card.thresholds == {"cat": 0.25}
    state = loaded.state_dict()
    assert all(torch.equal(state[key], value) for key, value in trained.state_dict().items())
    assert trained.card.license == "Apache-2.0"


def test_the_hub_reads_the_metadata(run, hub):
    """License, task, library, data set, and the metrics that have a value, main one first."""
    push(run, NAME, dataset="anna/pets-data")
    card = HubCard.load(hub.folder / NAME / "README.md")
    data = card.data.to_dict()
    assert data["license"] == "apache-2.0"
    assert data["pipeline_tag"] == "object-detection"
    assert data["library_name"] == "setmatch"
    assert data["datasets"] == ["anna/pets-data"]
    measured = [(each.metric_name, each.metric_value) for each in card.data.eval_results]
    assert measured == [("AP", 0.4124), ("AP50", 0.75)]
    assert {each.dataset_name for each in card.data.eval_results} == {"anna/pets-data"}


def test_the_page_says_what_a_stranger_needs(run, hub):
    """Data, classes with their numbers, use, preprocessing, limits and license."""
    push(run, NAME)
    page = (hub.folder / NAME / "README.md").read_text()
    for text in (
        'model = sm.load("anna/pets")',
        'threshold="best"',
        "| cat | 70 | 20.0 | 60.0 | 40 | 0.25 |",
        "| dog | 1,234 | 62.5 | 90.0 | 3 | – |",
        "on 20 validation images of pets.",
        "trained by setmatch on pets, from scenes\\_n",
        "1,304 objects in 90 training images.",
        "after step 1,200",
        "short side has 64 px",
        "finds worst: cat (AP 20.0)",
        "chance decides: dog",
        "licensed under Apache-2.0",
    ):
        assert text in page


def test_a_folder_is_written_without_a_token_and_pushed_as_it_was_edited(
    run, tmp_path, hub, monkeypatch
):
    out = tmp_path / "look"
    with monkeypatch.context() as alone:
        alone.setattr("huggingface_hub.get_token", lambda: None)
        assert push(run, NAME, out=out).files == FILES
        with pytest.raises(ConfigError, match="look: exists already"):
            push(run, NAME, out=out)
    assert hub.asked == []
    (out / "README.md").write_text("---\nlicense: mit\n---\nMy own words.\n")
    with pytest.raises(ConfigError, match=r"README\.md of its own"):
        push(out, NAME, license="mit")
    push(out, NAME)
    assert b"My own words" in hub.files(NAME)["README.md"]
    assert sm.load(NAME).card == sm.load(run).card


def test_a_detector_brings_no_metrics_but_takes_them(run, hub, tmp_path):
    """A report's numbers, or the file that evaluate writes."""
    model = sm.load(run)
    push(model, NAME)
    assert b"Not measured" in hub.files(NAME)["README.md"]
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    push(model, NAME, metrics=tmp_path / "metrics.json", replace=True)
    assert b"| 41.2 | 75.0 |" in hub.files(NAME)["README.md"]
    assert model.card == sm.load(run).card


def test_other_files_are_replaced_only_on_request(run, hub):
    """What would be replaced is named; after it, nothing else is there but the hub's own file."""
    hub.add(NAME, "config.json", "pytorch_model.bin", "model.safetensors")
    before = hub.files(NAME)
    with pytest.raises(ConfigError, match=r"has 3 files \(config\.json, .*--replace"):
        push(run, NAME)
    assert hub.files(NAME) == before
    pushed = push(run, NAME, replace=True)
    assert pushed.removed == ("config.json", "pytorch_model.bin")
    assert {*hub.files(NAME)} == {*FILES, ".gitattributes"}
    assert hub.commits == [FILES]
    sm.load(NAME)


def test_an_empty_repository_is_filled(model, hub):
    hub.add(NAME, private=True)
    push(model, NAME, private=True)
    assert {*FILES} < {*hub.files(NAME)}


def test_a_public_repository_is_not_taken_for_a_private_one(model, hub):
    hub.add(NAME)
    with pytest.raises(ConfigError, match="is public"):
        push(model, NAME, private=True)
    assert hub.commits == []


def test_a_private_repository_is_created_private(model, hub):
    push(model, NAME, private=True)
    assert hub.private == {NAME: True}


@pytest.mark.parametrize(
    "name",
    [
        *("anna", "anna/", "/pets", "anna/pets/two", "", "anna/my pets", "anna/-pets", "anna/a--b"),
        *("anna/a..b", "anna/pets.git", "../pets", "anna/..", "anna/pets.pth", "anna/pets.JSON"),
        *("anna/p\n", "anna/пёс", "anna/" + "p" * 97),
    ],
)
def test_a_malformed_name_is_one_line_before_anything_else(name, hub):
    with pytest.raises(ConfigError, match="not a name of a hub repository") as caught:
        push("nowhere", name)
    assert "\n" not in str(caught.value)
    assert hub.asked == []


@pytest.mark.parametrize(
    "dataset",
    [
        *("", " ", "anna/", "/pets", "anna/pets/two", "my pets", "anna/-pets", "a--b", "anna/a..b"),
        *("datasets/anna/pets", "https://huggingface.co/datasets/anna/pets", "anna/p\n", "пёс"),
        *("../pets", "anna/pets.git", "a: b", "p" * 97),
    ],
)
def test_a_malformed_name_of_a_data_set_is_one_line_before_anything_else(dataset, hub):
    with pytest.raises(ConfigError, match=r"^dataset .*not a name of a data set") as caught:
        push("nowhere", NAME, dataset=dataset)
    assert "\n" not in str(caught.value)
    assert hub.asked == []


@pytest.mark.parametrize("dataset", ["squad", "anna/pets.json", "0/0.1", "A_b-c/D"])
def test_a_data_set_of_the_hub_is_named(dataset, model, hub, tmp_path):
    """The oldest ones have no owner."""
    push(model, NAME, dataset=dataset, out=tmp_path / "out")
    assert f"\ndatasets:\n- {dataset}\n" in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize("name", ["anna/pets-1.5", "Anna_B/p.e.t.s", "a/b", "0/0.1"])
def test_names_with_dots_load(name, model, hub):
    push(model, name)
    assert sm.load(name).card.categories == PETS


@pytest.mark.parametrize(
    ("method", "failure", "kind", "says"),
    [
        ("model_info", refusal(401), ConfigError, "does not accept your token"),
        ("create_repo", refusal(403), ConfigError, "your token may not write there"),
        ("create_repo", refusal(409), ConfigError, "somebody else"),
        ("create_commit", refusal(403), ConfigError, "your token may not write there"),
        ("create_commit", refusal(412), ConfigError, "somebody else"),
        ("create_commit", refusal(500), UnreachableError, "500 .*all files have arrived or none"),
        ("create_commit", ConnectionError("reset\nby peer"), UnreachableError, "reset by peer"),
        ("create_commit", TimeoutError(), UnreachableError, "TimeoutError"),
        ("create_commit", ValueError("Bad metadata."), ConfigError, "Bad metadata; no file there"),
        ("create_commit", RuntimeError("no space"), UnreachableError, "no space"),
    ],
)
def test_a_failure_is_one_line_and_nothing_is_half_there(method, failure, kind, says, model, hub):
    hub.failures[method] = failure
    with pytest.raises(kind, match=says) as caught:
        push(model, NAME)
    assert "\n" not in str(caught.value)
    assert hub.commits == []


def test_the_next_push_fills_the_repository_that_a_failed_one_left(model, hub):
    hub.failures["create_commit"] = refusal(500)
    with pytest.raises(UnreachableError):
        push(model, NAME)
    hub.failures.clear()
    push(model, NAME)
    assert hub.commits == [FILES]


def test_a_push_of_somebody_else_in_between_is_not_overwritten(run, hub, monkeypatch):
    """The commit names the one that it follows."""
    hub.add(NAME)
    found = hub.model_info(NAME)
    (hub.folder / NAME / "theirs.bin").write_text("theirs")
    monkeypatch.setattr(hub, "model_info", lambda repo_id: found)
    with pytest.raises(ConfigError, match="somebody else"):
        push(run, NAME)
    assert hub.files(NAME)["theirs.bin"] == b"theirs"


def test_no_token_and_no_network_are_said_before_the_upload(run, hub, monkeypatch):
    with monkeypatch.context() as alone:
        alone.setattr("setmatch.models.weights.downloads.hub.why_unreachable", lambda: "no network")
        with pytest.raises(UnreachableError, match=r"no network\); nothing was uploaded"):
            push(run, NAME)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ConfigError, match="HF_TOKEN"):
        push(run, NAME)
    assert hub.asked == []


def test_terms_are_kept(tmp_path, hub):
    """Weights with terms are not published, keep their license, and ask whoever loads them."""
    model = with_card(tmp_path, license="objects365")
    with pytest.raises(ConfigError, match="objects365 and are not published"):
        push(model, NAME)
    with pytest.raises(ConfigError, match="keep the terms objects365"):
        push(model, NAME, license="mit", private=True)
    assert hub.asked == []
    push(model, NAME, private=True)
    assert b"license_name: objects365" in hub.files(NAME)["README.md"]
    with pytest.raises(WeightsError, match='accept_license="objects365"'):
        sm.load(NAME)
    assert sm.load(NAME, accept_license="objects365").card.license == "objects365"


@pytest.mark.parametrize(
    ("carried", "stated", "expected", "metadata"),
    [
        ("unknown", None, "unknown", {"license": "unknown"}),
        ("unknown", "apache-2.0", "Apache-2.0", {"license": "apache-2.0"}),
        ("Apache-2.0", "CC-BY-4.0", "CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("MIT", "House-1.0", "House-1.0", {"license": "other", "license_name": "house-1.0"}),
    ],
)
def test_the_license_is_stated_alike_everywhere(carried, stated, expected, metadata, tmp_path, hub):
    push(with_card(tmp_path, license=carried), NAME, license=stated)
    page = HubCard.load(hub.folder / NAME / "README.md")
    assert metadata.items() <= page.data.to_dict().items()
    assert sm.load(NAME).card.license == expected
    inherits = carried not in (expected, "unknown")
    assert (f"under {carried}, which still holds" in page.text) == inherits


@pytest.mark.parametrize("license", ["", "my own", "a\nb", "x" * 61, "../mit"])
def test_a_license_that_is_no_name_is_refused(license):
    with pytest.raises(ConfigError, match="apache"):
        choose_license("MIT", license, is_private=False)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "null", '{"AP": "high"}', '{"AP": 41.2}', '{"AP": NaN}', '{"AP": -1}'),
        *('{"AP": 0.4, "per_class": 3}', "[" * 5000, '{"AP": 0.4, "per_class": {"a": 3}}'),
    ],
)
def test_what_are_no_metrics_is_one_line(text, tmp_path):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ConfigError, match=r"metrics\.json") as caught:
        read_metrics(tmp_path / "metrics.json")
    assert "\n" not in str(caught.value)


def test_wrong_metrics_and_licenses_are_refused_before_the_hub_is_asked(model, hub):
    for wrong in ({"metrics": {"AP": "high"}}, {"license": "my own"}):
        with pytest.raises(ConfigError):
            push(model, NAME, **wrong)
    assert hub.asked == []


def test_no_path_of_this_machine_is_published(tmp_path, hub):
    model = with_card(tmp_path, source=str(tmp_path / "secret" / "detr"))
    push(model, NAME)
    everything = b"".join(hub.files(NAME).values())
    assert b"secret" not in everything
    assert sm.load(NAME).card.source == "detr"


def test_another_programs_model_json_is_no_card(hub):
    """A repository without our card is read as one of transformers."""
    hub.add(NAME, "config.json", "model.json", "model.safetensors")
    with pytest.raises(WeightsError, match=r"config\.json"):
        sm.load(NAME)


def test_the_command_says_what_it_did(run, hub, tmp_path, capsys):
    assert main(["push", str(run), NAME, "--out", str(tmp_path / "look")]) == 0
    assert "nothing was uploaded" in capsys.readouterr().out
    hub.add(NAME, "old.bin")
    assert main(["push", "--model", str(run), NAME, "--replace", "--license", "mit"]) == 0
    said = capsys.readouterr().out
    assert "uploaded README.md, model.json, model.safetensors to https://" in said
    assert "removed what was there: old.bin" in said
    assert main(["push", str(run), NAME]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("model", ["nowhere", "photo.jpg", "model.onnx"])
def test_what_is_no_model_is_an_error_before_the_hub_is_asked(model, tmp_path, hub, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "model.onnx"):
        Path(name).write_bytes(b"\x08nothing")
    with pytest.raises(SetmatchError):
        push(model, NAME)
    assert hub.asked == []
