"""The training monitor warns in runs made to have a fault, and gives no warning in a healthy one.

The runs that train take about ten seconds together; nothing smaller reaches an AP.
"""

import json
import random

import pytest
from fixed_clock import FixedStepClock
from quick_runs import Split, run_quick, write
from tiny_runs import log_rows

from setmatch.config import TrainSettings
from setmatch.training.monitor.monitor import LENGTH, TrainingMonitor
from setmatch.training.monitor.rules import RunContext
from setmatch.training.schedule.schedule import make_schedule
from setmatch.training.start import start_run

# The published method with few weights: it collapses, and its matching is unstable, more easily.
PUBLISHED = ("model.preset=tiny", "train.muon_lr=0", "train.ema_decay=0", "train.epochs=12")
CONSTANT_RATE = "train.schedule=drop"  # at epoch 200, so never here


def rate(lr):
    return f"train.lr={lr}", f"train.backbone_lr={lr}"


SHORT = ("train.epochs=6", "train.batch_size=8", "train.micro_batch=8", "train.warmup_steps=0")
LOW_RATE = (*rate(1e-5), "train.muon_lr=1e-5", *SHORT)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data"), train=Split(64), val=Split(24))


@pytest.fixture(scope="module")
def healthy(data, tmp_path_factory):
    return run_quick(data, tmp_path_factory.mktemp("healthy") / "run")


def warnings_of(run):
    """Return the warnings of a run by rule."""
    return {row["fault"]: row["says"] for row in log_rows(run.folder) if row["kind"] == "watch"}


def test_a_healthy_run_gets_no_warning(healthy):
    assert healthy.best["AP50"] > 0.3
    assert warnings_of(healthy) == {}


def test_too_few_steps_cause_a_warning_before_the_first(data, tmp_path, capsys):
    """The warning appears once on the console, with advice."""
    run = run_quick(data, tmp_path / "run", "train.epochs=2")
    sentence = warnings_of(run)["too_few_steps"]
    assert "8 steps of 16 images" in sentence
    assert "raise train.epochs" in sentence
    assert log_rows(run.folder)[0]["fault"] == "too_few_steps"
    console = capsys.readouterr().err
    assert console.count(f"warning: {sentence}") == 1
    assert console.index(sentence) < console.index("step 1/8")


def test_a_warmup_of_more_than_half_the_steps_causes_a_warning():
    schedule = make_schedule(64, TrainSettings(epochs=20, batch_size=16, warmup_steps=41))
    (warning,) = TrainingMonitor(RunContext(schedule, False, None, {})).check_schedule()
    assert "80 steps of 16 images" in warning.sentence
    assert "41 of the steps are warm-up" in warning.sentence


def test_a_warmup_longer_than_the_run_causes_a_warning_with_advice():
    """In a run of epochs before the first step, in a time-based run once the pace is known."""
    schedule = make_schedule(64, TrainSettings(epochs=10, batch_size=16, warmup_steps=50))
    (warning,) = TrainingMonitor(RunContext(schedule, False, None, {})).check_schedule()
    assert "40 steps of 16 images" in warning.sentence
    assert "the warm-up of 50 steps does not end" in warning.sentence
    assert "raise train.epochs" in warning.sentence
    clock = TrainingMonitor(
        RunContext(make_schedule(64, TrainSettings(minutes=1.0)), False, None, {})
    )
    assert clock.check_schedule() == []
    (warning,) = clock.add({"kind": "train", "step": 3, "loss": 9.0}, spent_s=12.0)
    assert "about 10 steps of 16 images" in warning.sentence  # two steps were done after 12 seconds
    assert "the warm-up, a fiftieth of the time, is shorter than one step" in warning.sentence
    assert "raise train.minutes" in warning.sentence


def test_muon_needs_fewer_steps():
    """Learned queries with Muon detected most objects after 750 steps; with AdamW almost none."""
    schedule = make_schedule(4000, TrainSettings(epochs=3, batch_size=16, muon_lr=0.01))
    assert TrainingMonitor(RunContext(schedule, True, None, {})).check_schedule() == []
    schedule = make_schedule(4000, TrainSettings(epochs=1, batch_size=16, muon_lr=0.01))
    (warning,) = TrainingMonitor(RunContext(schedule, True, None, {})).check_schedule()
    assert "250 steps of 16 images" in warning.sentence
    assert "some hundreds" in warning.sentence


@pytest.mark.thorough
def test_a_time_based_run_estimates_its_steps_from_its_pace(data, tmp_path, monkeypatch):
    monkeypatch.setattr(start_run, "Clock", FixedStepClock)
    run = run_quick(data, tmp_path / "run", "train.minutes=0.03")
    assert "too few steps: about 4 steps of" in warnings_of(run)["too_few_steps"]


@pytest.mark.thorough
def test_collapsed_queries_are_detected(data, tmp_path):
    """With a learning rate far too high, every query predicts the same box."""
    run = run_quick(data, tmp_path / "run", *PUBLISHED, *rate(0.1), "train.evaluate_every=2")
    sentence = warnings_of(run)["queries_collapsed"]
    assert "only 0% of the objects are" in sentence
    assert "a tenth of train.lr (now 0.1)" in sentence


@pytest.mark.parametrize(("length", "advised"), [({"epochs": 10}, True), ({"minutes": 1}, False)])
def test_only_a_run_of_epochs_is_advised_to_lengthen_its_warmup(length, advised):
    """The warm-up of a time-based run ignores train.warmup_steps."""
    schedule = make_schedule(64, TrainSettings(**length, batch_size=16))
    monitor, found = TrainingMonitor(RunContext(schedule, True, None, {})), []
    for step in (16, 20):
        probe = {"probe/alike": 1.0, "probe/objects_alike": 0.1}
        found += monitor.add({"kind": "val", "step": step, "AP50": 0.3, **probe}, 30.0, {})
    (sentence,) = (warning.sentence for warning in found if warning.fault == "queries_collapsed")
    assert ("warmup_steps" in sentence) == advised


@pytest.mark.parametrize(
    ("flips", "is_unstable"),
    [([0.7, 0.8, 0.7], True), ([0.5, 0.6, 0.5], False), ([0.9, 0.8, 0.5], False)],
)
def test_unstable_matching_is_detected(flips, is_unstable):
    """Most objects change their query each time; fewer objects, or a falling number, are fine.

    Tested on rows: whether a high learning rate makes matching unstable or collapses the queries
    depends on the processor's last bits.
    """
    schedule = make_schedule(64, TrainSettings(epochs=10, batch_size=16))
    monitor, found = TrainingMonitor(RunContext(schedule, True, None, {})), []
    for number, fraction in enumerate(flips):
        row = {"kind": "val", "step": 16 + 4 * number, "AP50": 0.3, "probe/flips": fraction}
        found += monitor.add(row, 0.0, {})
    assert [warning.fault for warning in found] == ["unstable_matching"] * is_unstable
    assert all("70%, 80%, 70% of the objects" in warning.sentence for warning in found)


@pytest.mark.thorough
def test_the_flip_rate_is_logged_from_the_second_evaluation_on(data, tmp_path):
    """A high learning rate makes it large."""
    run = run_quick(
        data, tmp_path / "run", *PUBLISHED, *rate(0.05), CONSTANT_RATE, "train.evaluate_every=3"
    )
    first, *later = [row.get("probe/flips") for row in log_rows(run.folder) if row["kind"] == "val"]
    assert first is None
    assert max(later) > 0.2


@pytest.mark.thorough
def test_a_falling_loss_without_detections_is_detected(tmp_path):
    """Validation boxes have half the size of their objects, so even a good model scores 0."""
    data = write(tmp_path / "data", train=Split(64), val=Split(24, outgrown=True))
    run = run_quick(data, tmp_path / "run", "train.epochs=12", "train.evaluate_every=3")
    sentence = warnings_of(run)["nothing_detected"]
    assert "the loss fell from" in sentence
    assert "audit" in sentence


@pytest.mark.thorough
def test_a_class_that_is_never_detected_is_named(healthy, tmp_path):
    """Blue objects are in the validation images only."""
    blue = Split(24, colors=("red", "green", "blue"))
    data = write(tmp_path / "data", train=Split(64), val=blue)
    run = run_quick(data, tmp_path / "run", *LOW_RATE, weights=healthy.folder)
    assert set(warnings_of(run)) == {"class_never_detected"}
    assert "'blue' (0 training objects)" in warnings_of(run)["class_never_detected"]


@pytest.mark.thorough
def test_a_learning_rate_too_high_for_loaded_weights_is_detected(data, healthy, tmp_path):
    """A low learning rate on the same weights causes no warning."""
    hot = ("train.lr=0.05", "train.muon_lr=0.5")
    too_high = run_quick(data, tmp_path / "hot", *SHORT, *hot, weights=healthy.folder)
    sentence = warnings_of(too_high)["lr_too_high"]
    assert {"lr", "muon_lr", "backbone_lr"} & set(log_rows(too_high.folder)[0]) == {"lr", "muon_lr"}
    assert f"for the loaded weights ({healthy.folder})" in sentence
    assert "a tenth of train.lr (now 0.05) and train.muon_lr (now 0.5)" in sentence
    assert warnings_of(run_quick(data, tmp_path / "fine", *LOW_RATE, weights=healthy.folder)) == {}


@pytest.mark.thorough
def test_a_resumed_run_shows_its_warnings_again_and_logs_none_twice(data, tmp_path, capfd):
    run_quick(data, tmp_path / "run", "train.epochs=2")
    capfd.readouterr()
    resumed = resume_quick(data, tmp_path / "run")
    (sentence,) = [row["says"] for row in log_rows(resumed.folder) if row.get("fault") == LENGTH]
    shown = " ".join(capfd.readouterr().err.split())
    assert f"warning of step 0, before the interruption: {sentence}" in shown
    faults = [row["fault"] for row in log_rows(resumed.folder) if row["kind"] == "watch"]
    assert faults.count("too_few_steps") == 1


def resume_quick(data, out):
    from setmatch.training.train import train

    return train(data, out=out, overrides=["train.epochs=4"], resume=True, allow_changes=True)


@pytest.mark.thorough
def test_the_flip_rate_compares_with_the_evaluation_before_an_interruption(data, tmp_path):
    few = (*PUBLISHED, "train.epochs=2", "train.evaluate_every=1")
    run = run_quick(data, tmp_path / "run", *few)
    before = [row for row in log_rows(run.folder) if row["kind"] == "val"]
    assert ["probe/flips" in row for row in before] == [False, True]
    resumed = resume_quick(data, tmp_path / "run")
    after = [row for row in log_rows(resumed.folder) if row["kind"] == "val"]
    assert ["probe/flips" in row for row in after] == [False, True, True, True]
    assert json.loads((run.folder / "probe.json").read_text())["step"] == after[-1]["step"]


def warnings_at(per_class, step, epochs=20):
    """Return the rules that warn at one evaluation; 200 images, five objects of each class."""
    schedule = make_schedule(200, TrainSettings(epochs=epochs, batch_size=16))
    monitor = TrainingMonitor(RunContext(schedule, False, None, dict.fromkeys(per_class, 5)))
    row = {"kind": "val", "step": step, "epoch": 1, "AP": 0.2, "AP50": 0.3}
    numbers = {name: {"AP50": ap50} for name, ap50 in per_class.items()}
    return [warning.fault for warning in monitor.add(row, 0.0, numbers)]


def test_a_class_with_objects_is_given_time():
    assert warnings_at({"a": 0.5, "b": 0.0}, step=240) == ["class_never_detected"]
    assert warnings_at({"a": 0.5, "b": 0.0}, step=100, epochs=10) == []
    assert warnings_at({"a": 0.5, "b": 0.0}, step=150) == [], "twelve epochs, but few steps"
    assert warnings_at({"a": 0.1, "b": 0.0}, step=240) == []
    assert warnings_at({"a": 0.5, "b": None}, step=240) == []


def evaluate_marks(marks):
    """Return the warnings with the number of their evaluation; `marks` are AP and loss of each."""
    monitor = TrainingMonitor(
        RunContext(make_schedule(200, TrainSettings(epochs=900, batch_size=16)), False, None, {})
    )
    warnings = []
    for number, (ap, loss) in enumerate(marks, 1):
        monitor.add({"kind": "train", "step": 200 * number, "loss": loss, "giou": 0.2}, 0.0)
        row = {"kind": "val", "step": 200 * number, "AP": ap, "AP50": 0.9}
        warnings += [(number, each.sentence) for each in monitor.add(row, 0.0, {})]
    return warnings


# AP of setmatch_s on blood cells, on a GPU; of setmatch_n; and two derived from the first.
OVERFITTING = [0.625, 0.623, 0.614, 0.605, 0.605, 0.595, 0.590, 0.589, 0.591]
FALLING = [7.8, 6.5, 5.8, 4.9, 4.3, 3.3, 2.9, 2.7, 2.6]
NOT_OVERFITTING = {
    "level": ([0.482, 0.526, 0.558, 0.614, 0.615, 0.615, 0.615], FALLING),
    "loss stands": (OVERFITTING, [7.8] * 9),
    "comes back": ([*OVERFITTING[:6], 0.62, 0.61, 0.62], FALLING),
}


def test_overfitting_is_detected():
    """AP falls from evaluation to evaluation while the loss falls too."""
    ((at, sentence),) = evaluate_marks(zip(OVERFITTING, FALLING, strict=True))
    assert at == 7
    assert "AP was 62.3 around step 400 and is 59.5 now" in sentence


@pytest.mark.parametrize("case", NOT_OVERFITTING)
def test_ap_that_does_not_drop_for_good_is_not_overfitting(case):
    """AP stays, recovers, or drops without a falling loss."""
    aps, losses = NOT_OVERFITTING[case]
    assert evaluate_marks(zip(aps, losses, strict=False)) == []


def test_noisy_ap_is_not_overfitting():
    """Few validation images: AP varies around one level, over sixty evaluations."""
    rng = random.Random(0)
    losses = [10 * 0.97**number for number in range(60)]
    alarms = sum(
        bool(evaluate_marks([(rng.gauss(0.4, 0.015), loss) for loss in losses])) for _ in range(100)
    )
    assert alarms <= 2


def test_rows_without_numbers_cause_no_warning():
    """Such rows follow when all steps were skipped."""
    monitor = TrainingMonitor(
        RunContext(make_schedule(200, TrainSettings(epochs=20, batch_size=16)), True, None, {})
    )
    for step in (1, 50, 100, 150, 200, 240):
        row = {"kind": "train", "step": step, "loss": None, "giou": None}
        assert monitor.add(row, 0.0) == []
        row = {"kind": "val", "step": step, "AP": None, "AP50": None}
        assert monitor.add(row, 0.0, {}) == []
