"""The page of a search: what it shows, in a browser too, and that names cannot change it."""

import re

import pytest
from simulation import near_a_hundredth

from setmatch.errors import TrainingError
from setmatch.recipe_text import load_recipe
from setmatch.tuning.page import write_page
from setmatch.tuning.results import Search
from setmatch.tuning.space import Choice, Range
from setmatch.tuning.trial import Trial

SPACE = {
    "train.lr": Range(1e-4, 1e-2, log=True),
    "train.clip_norm": Range(0.1, 1.0),
    "data.augment": Choice(("small", "flip", "none")),
}


def values(lr, norm=0.5, augment="small"):
    return {"train.lr": lr, "train.clip_norm": norm, "data.augment": augment}


TRIALS = (
    Trial(1, values(1e-3), "complete", (1, 2), (0.3, 0.5), seconds=90),
    Trial(2, values(2e-3), "pruned", (1,), (0.1,), reason="worse than half of the other trials"),
    Trial(3, values(1e-2), "failed", reason="no <b>loss</b> is finite"),
    Trial(4, values(5e-3, augment="none"), "complete", (1, 2), (0.4, 0.625)),
    Trial(5, values(4e-3), "running"),
)


def page_of(folder, trials, data="cells <3"):
    search = Search(folder, data, SPACE, load_recipe("setmatch_n"), tuple(trials))
    write_page(search)
    return (folder / "tune.html").read_text("utf-8")


def test_the_page_shows_the_best_settings_and_every_trial(tmp_path):
    text = page_of(tmp_path, TRIALS)
    words = " ".join(re.sub(r"<[^>]*>", " ", text).split())
    assert "5 trials on cells &lt;3" in words
    assert "train.lr searched: 0.0001 to 0.01, logarithmic 0.005 0.001" in words
    assert "AP 62.5 50.0" in words
    assert "4 complete, the best 62.5" in words
    assert "pruned worse than half of the other trials 10.0" in words
    assert "failed no &lt;b&gt;loss&lt;/b&gt; is finite –" in words
    assert "AP by train.lr, in percent" in words
    assert text.count("<figure") == 2 + len(SPACE)
    assert text.count('class="best"') == 1


@pytest.mark.parametrize("count", range(len(TRIALS) + 1))
def test_a_search_that_has_just_begun_has_a_page(tmp_path, count):
    """Of no trial, of one, and of trials without a score."""
    page_of(tmp_path, TRIALS[:count])
    page_of(tmp_path, TRIALS[-count:])


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_fits_phones_and_screens(tmp_path, open_page, width):
    page_of(tmp_path, TRIALS)
    page = open_page(tmp_path / "tune.html", width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("figure svg").count() == 2 + len(SPACE)


def test_trials_link_to_the_pages_of_their_runs(search, simulate):
    def fail(name, recipe, step):
        if name == "002":
            raise TrainingError("too large")

    simulate(near_a_hundredth, before=fail)
    done = search()
    (done.out / "trials" / "003" / "live.html").write_text("")
    write_page(done)
    links = re.findall(r'href="(.*?)"', (done.out / "tune.html").read_text("utf-8"))
    assert links == ["trials/003/live.html"]
