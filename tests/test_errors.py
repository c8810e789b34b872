"""Messages say numbers and unknown names as a person would."""

import pytest

from setmatch.errors import ConfigError, counted, suggest
from setmatch.models.registry import find_preset


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [
        (1, "step", "1 step"),
        (0, "step", "0 steps"),
        (1008, "step", "1,008 steps"),
        (1.0, "minute", "1 minute"),
        (0.5, "minute", "0.5 minutes"),
        (1, "process", "1 process"),
        (2, "process", "2 processes"),
        (2, "micro-batch", "2 micro-batches"),
        (1, "epoch", "1 epoch"),
        (30, "epoch", "30 epochs"),
        (2, "box", "2 boxes"),
        (2, "branch", "2 branches"),
        (2, "class", "2 classes"),
    ],
)
def test_numbers_of_things_are_counted_in_plain_english(count: float, noun: str, said: str):
    assert counted(count, noun) == said


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("dfine", "did you mean dfine_n, dfine_s, dfine_m, dfine_l, dfine_x?"),
        (
            "detr",
            "did you mean detr_r50, detr_r50_dc5, detr_r101, ",
        ),
        ("D-FINE-S", "did you mean dfine_s?"),
        ("rtdetr-l", "did you mean rtdetr_"),
        ("rtdetr_r55", "did you mean rtdetr_r50?"),
        ("detr_r5O", "did you mean detr_r50?"),
        ("yolo11n.pt", "see setmatch models"),
    ],
)
def test_an_unknown_model_gets_names_of_its_family(name: str, advice: str):
    with pytest.raises(ConfigError) as error:
        find_preset(name)
    assert f"no such model; {advice}" in str(error.value)


def test_a_beginning_of_a_name_is_completed():
    assert suggest("--thre", ["--threshold", "--three"]) == "did you mean --threshold or --three?"
