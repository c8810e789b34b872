"""The watch says what goes wrong, in runs made to have a fault, and is silent in one that has none.

The runs that learn take about ten seconds together: nothing smaller reaches an AP.
"""

import json
import random

import pytest
from quick_runs import Split, run_quick, write
from tiny_runs import log_rows

from setmatch.config import TrainSettings
from setmatch.training.monitor.monitor import TrainingMonitor
from setmatch.training.monitor.rules import RunContext
from setmatch.training.schedule import make_schedule

# For the published method with few weights, which collapses and wavers more readily.
PUBLISHED = ("model.preset=tiny", "train.muon_lr=0", "train.ema_decay=0", "train.epochs=12")
WILD = "train.schedule=drop"  # at epoch 200: the learning rate never falls


def rate(lr):
    return f"train.lr={lr}", f"train.backbone_lr={lr}"


SHORT = ("train.epochs=6", "train.batch_size=8", "train.micro_batch=8", "train.warmup_steps=0")
GENTLE = (*rate(1e-5), "train.muon_lr=1e-5", *SHORT)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data"), train=Split(64), val=Split(24))


@pytest.fixture(scope="module")
def healthy(data, tmp_path_factory):
    return run_quick(data, tmp_path_factory.mktemp("healthy") / "run")


def remarks(run):
    """Return what the watch said in a run, by fault."""
    return {row["fault"]: row["says"] for row in log_rows(run.folder) if row["kind"] == "watch"}


def test_a_healthy_run_is_left_in_peace(healthy):
    """A run that learns hears nothing from the watch."""
    assert healthy.best["AP50"] > 0.3
    assert remarks(healthy) == {}


def test_too_few_steps_are_said_before_the_first(data, tmp_path, capsys):
    """Eight steps are too few; it is said on the screen at once, and once, with what to do."""
    run = run_quick(data, tmp_path / "run", "train.epochs=2")
    said = remarks(run)["too_few_steps"]
    assert "8 of 16 images" in said
    assert "raise train.epochs" in said
    assert log_rows(run.folder)[0]["fault"] == "too_few_steps"
    screen = capsys.readouterr().err
    assert screen.count(f"warning: {said}") == 1
    assert screen.index(said) < screen.index("step 1/8")


def test_a_long_warm_up_is_too_few_steps():
    """A warm-up that takes more than half of the steps leaves too few."""
    plan = make_schedule(64, TrainSettings(epochs=20, batch_size=16, warmup_steps=41))
    (remark,) = TrainingMonitor(RunContext(plan, False, None, {})).check_schedule()
    assert "80 of 16 images" in remark.sentence
    assert "41 of them warm-up" in remark.sentence


def test_a_warm_up_that_does_not_end_is_said_with_what_to_do():
    """Before the first step by epochs; by the clock as soon as the pace is known."""
    plan = make_schedule(64, TrainSettings(epochs=10, batch_size=16, warmup_steps=50))
    (remark,) = TrainingMonitor(RunContext(plan, False, None, {})).check_schedule()
    assert "40 of 16 images" in remark.sentence
    assert "the warm-up of 50 steps does not end" in remark.sentence
    assert "raise train.epochs" in remark.sentence
    clock = TrainingMonitor(
        RunContext(make_schedule(64, TrainSettings(minutes=1.0)), False, None, {})
    )
    assert clock.check_schedule() == []
    (remark,) = clock.add({"kind": "train", "step": 3, "loss": 9.0}, spent_s=12.0)
    assert "about 10 of 16 images" in remark.sentence  # two steps were done after 12 seconds
    assert "not even the warm-up" in remark.sentence
    assert "raise train.minutes" in remark.sentence


def test_muon_needs_fewer_steps():
    """Learned queries under Muon found most objects after 750 steps, which AdamW had not begun."""
    plan = make_schedule(4000, TrainSettings(epochs=3, batch_size=16, muon_lr=0.01))
    assert TrainingMonitor(RunContext(plan, True, None, {})).check_schedule() == []
    plan = make_schedule(4000, TrainSettings(epochs=1, batch_size=16, muon_lr=0.01))
    (remark,) = TrainingMonitor(RunContext(plan, True, None, {})).check_schedule()
    assert "250 of 16 images" in remark.sentence
    assert "some hundreds" in remark.sentence


def test_too_few_steps_are_said_when_the_pace_of_the_clock_is_known(data, tmp_path):
    """By the clock the number of steps is estimated from those that were taken."""
    run = run_quick(data, tmp_path / "run", "train.minutes=0.03")
    assert "too few steps: about" in remarks(run)["too_few_steps"]


def test_collapsed_queries_are_noticed(data, tmp_path):
    """With a learning rate far too high every query gives one box, whatever the object."""
    run = run_quick(data, tmp_path / "run", *PUBLISHED, *rate(0.1), "train.evaluate_every=2")
    said = remarks(run)["queries_collapsed"]
    assert "only 0% of the objects are" in said
    assert "a tenth of train.lr (now 0.1)" in said


@pytest.mark.parametrize(("length", "advised"), [({"epochs": 10}, True), ({"minutes": 1}, False)])
def test_a_warm_up_is_advised_only_where_a_setting_says_how_long_it_is(length, advised):
    """By the clock it is a share of the time, whatever train.warmup_steps says."""
    plan = make_schedule(64, TrainSettings(**length, batch_size=16))
    watch, found = TrainingMonitor(RunContext(plan, True, None, {})), []
    for step in (16, 20):
        probe = {"probe/alike": 1.0, "probe/objects_alike": 0.1}
        found += watch.add({"kind": "val", "step": step, "AP50": 0.3, **probe}, 30.0, {})
    (said,) = (remark.sentence for remark in found if remark.fault == "queries_collapsed")
    assert ("warmup_steps" in said) == advised


@pytest.mark.parametrize(
    ("flips", "said"),
    [([0.7, 0.8, 0.7], True), ([0.5, 0.6, 0.5], False), ([0.9, 0.8, 0.5], False)],
)
def test_matching_that_does_not_settle_is_noticed(flips, said):
    """Most objects change their query each time; fewer objects, or a falling number, are fine.

    Tested on rows: whether a high learning rate makes matching unstable or collapses the queries
    depends on the processor's last bits.
    """
    plan = make_schedule(64, TrainSettings(epochs=10, batch_size=16))
    watch, found = TrainingMonitor(RunContext(plan, True, None, {})), []
    for number, share in enumerate(flips):
        row = {"kind": "val", "step": 16 + 4 * number, "AP50": 0.3, "probe/flips": share}
        found += watch.add(row, 0.0, {})
    assert [remark.fault for remark in found] == ["unstable_matching"] * said
    assert all("70%, 80%, 70% of the objects" in remark.sentence for remark in found)


def test_how_many_objects_change_their_query_is_measured(data, tmp_path):
    """At a wild rate many do, from the second evaluation on."""
    run = run_quick(data, tmp_path / "run", *PUBLISHED, *rate(0.05), WILD, "train.evaluate_every=3")
    first, *later = [row.get("probe/flips") for row in log_rows(run.folder) if row["kind"] == "val"]
    assert first is None
    assert max(later) > 0.2


def test_loss_that_falls_while_nothing_is_found_is_noticed(tmp_path):
    """Validation pictures were enlarged, their boxes were not: training well finds none of them."""
    data = write(tmp_path / "data", train=Split(64), val=Split(24, outgrown=True))
    run = run_quick(data, tmp_path / "run", "train.epochs=12", "train.evaluate_every=3")
    said = remarks(run)["nothing_detected"]
    assert "the loss fell from" in said
    assert "audit" in said


def test_a_class_that_is_never_found_is_named(healthy, tmp_path):
    """Blue is in the validation images alone; the others are found."""
    blue = Split(24, colors=("red", "green", "blue"))
    data = write(tmp_path / "data", train=Split(64), val=blue)
    run = run_quick(data, tmp_path / "run", *GENTLE, weights=healthy.folder)
    assert set(remarks(run)) == {"class_never_detected"}
    assert "blue (0 training objects)" in remarks(run)["class_never_detected"]


def test_a_learning_rate_that_spoils_loaded_weights_is_noticed(data, healthy, tmp_path):
    """The boxes were good before the first step; a gentle rate on the same weights is fine."""
    hot = ("train.lr=0.05", "train.muon_lr=0.5")
    spoilt = run_quick(data, tmp_path / "hot", *SHORT, *hot, weights=healthy.folder)
    said = remarks(spoilt)["lr_too_high"]
    assert {"lr", "muon_lr", "backbone_lr"} & set(log_rows(spoilt.folder)[0]) == {"lr", "muon_lr"}
    assert f"for the loaded weights ({healthy.folder})" in said
    assert "a tenth of train.lr (now 0.05) and train.muon_lr (now 0.5)" in said
    assert remarks(run_quick(data, tmp_path / "fine", *GENTLE, weights=healthy.folder)) == {}


def test_a_resumed_run_says_nothing_twice(data, tmp_path):
    """What stands in the log has been said; the log of the whole run has each sentence once."""
    run_quick(data, tmp_path / "run", "train.epochs=2")
    resumed = run_quick_on(data, tmp_path / "run")
    faults = [row["fault"] for row in log_rows(resumed.folder) if row["kind"] == "watch"]
    assert faults.count("too_few_steps") == 1


def run_quick_on(data, out):
    from setmatch.training.train import train

    return train(data, out=out, overrides=["train.epochs=4"], resume=True, allow_changes=True)


def test_the_matching_before_an_interruption_is_compared_with(data, tmp_path):
    """Flips are told at the first evaluation after a resume too."""
    few = (*PUBLISHED, "train.epochs=2", "train.evaluate_every=1")
    run = run_quick(data, tmp_path / "run", *few)
    before = [row for row in log_rows(run.folder) if row["kind"] == "val"]
    assert ["probe/flips" in row for row in before] == [False, True]
    resumed = run_quick_on(data, tmp_path / "run")
    after = [row for row in log_rows(resumed.folder) if row["kind"] == "val"]
    assert ["probe/flips" in row for row in after] == [False, True, True, True]
    assert json.loads((run.folder / "probe.json").read_text())["step"] == after[-1]["step"]


def heard(per_class, step, epochs=20):
    """Return what is said at one evaluation, of 200 images, each class having five objects."""
    plan = make_schedule(200, TrainSettings(epochs=epochs, batch_size=16))
    watch = TrainingMonitor(RunContext(plan, False, None, dict.fromkeys(per_class, 5)))
    row = {"kind": "val", "step": step, "epoch": 1, "AP": 0.2, "AP50": 0.3}
    numbers = {name: {"AP50": ap50} for name, ap50 in per_class.items()}
    return [remark.fault for remark in watch.add(row, 0.0, numbers)]


def test_a_class_is_given_time():
    """A class that has objects is not given up early, nor while others are hardly found."""
    assert heard({"a": 0.5, "b": 0.0}, step=240) == ["class_never_detected"]
    assert heard({"a": 0.5, "b": 0.0}, step=100, epochs=10) == []
    assert heard({"a": 0.5, "b": 0.0}, step=150) == [], "twelve rounds, but of few steps"
    assert heard({"a": 0.1, "b": 0.0}, step=240) == []
    assert heard({"a": 0.5, "b": -1.0}, step=240) == []


def hear_evaluations(marks):
    """Return at which evaluation something is said, and what; `marks` are AP and loss of each."""
    watch = TrainingMonitor(
        RunContext(make_schedule(200, TrainSettings(epochs=900, batch_size=16)), False, None, {})
    )
    said = []
    for number, (ap, loss) in enumerate(marks, 1):
        watch.add({"kind": "train", "step": 200 * number, "loss": loss, "giou": 0.2}, 0.0)
        row = {"kind": "val", "step": 200 * number, "AP": ap, "AP50": 0.9}
        said += [(number, each.sentence) for each in watch.add(row, 0.0, {})]
    return said


# Of setmatch_s on blood cells, on a GPU; of setmatch_n; and two made of the first.
BY_HEART = [0.625, 0.623, 0.614, 0.605, 0.605, 0.595, 0.590, 0.589, 0.591]
FALLING = [7.8, 6.5, 5.8, 4.9, 4.3, 3.3, 2.9, 2.7, 2.6]
IN_PEACE = {
    "level": ([0.482, 0.526, 0.558, 0.614, 0.615, 0.615, 0.615], FALLING),
    "loss stands": (BY_HEART, [7.8] * 9),
    "comes back": ([*BY_HEART[:6], 0.62, 0.61, 0.62], FALLING),
}


def test_learning_by_heart_is_noticed():
    """AP falls evaluation by evaluation while the loss does."""
    ((at, sentence),) = hear_evaluations(zip(BY_HEART, FALLING, strict=True))
    assert at == 7
    assert "AP was 0.623 around step 400 and is 0.595 now" in sentence


@pytest.mark.parametrize("case", IN_PEACE)
def test_other_ways_of_ap_are_left_in_peace(case):
    """AP that stays, returns, or falls with the loss as it was."""
    aps, losses = IN_PEACE[case]
    assert hear_evaluations(zip(aps, losses, strict=False)) == []


def test_ap_that_wavers_is_not_taken_for_one_that_falls():
    """Few validation images: AP jumps about one level, for sixty evaluations."""
    chance = random.Random(0)
    losses = [10 * 0.97**number for number in range(60)]
    alarms = sum(
        bool(hear_evaluations([(chance.gauss(0.4, 0.015), loss) for loss in losses]))
        for _ in range(100)
    )
    assert alarms <= 2


def test_losses_that_were_not_finite_are_no_evidence():
    """A row without numbers, of steps that were all skipped, stops nothing."""
    watch = TrainingMonitor(
        RunContext(make_schedule(200, TrainSettings(epochs=20, batch_size=16)), True, None, {})
    )
    for step in (1, 50, 100, 150, 200, 240):
        row = {"kind": "train", "step": step, "loss": None, "giou": None}
        assert watch.add(row, 0.0) == []
        row = {"kind": "val", "step": step, "AP": None, "AP50": None}
        assert watch.add(row, 0.0, {}) == []
