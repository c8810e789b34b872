"""torchvision's detectors train, resume and are evaluated like our own."""

import copy

import pytest
import torch
from tiny_runs import (
    CrashError,
    assert_bit_equal,
    crash_before,
    log_rows,
    run_tiny,
    tiny_baseline,
    write_data,
)
from torchvision.models.detection.transform import GeneralizedRCNNTransform

import setmatch
from setmatch.losses.normalizer import LossNormalizer
from setmatch.models.torchvision.model import torchvision_losses
from setmatch.structures.batch import Batch, Target

BASELINE = ("model.preset=tiny_baseline", "model.arguments={}")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """An uninterrupted run of 8 steps."""
    return run_tiny(data, tmp_path_factory.mktemp("whole") / "run", *BASELINE).folder


def sample_images():
    """Two images of different sizes, neither a multiple of the stride."""
    torch.manual_seed(1)
    return [torch.rand(3, 60, 96), torch.rand(3, 90, 64)]


def targets():
    """Objects for two images, the second empty; binary fractions, so that pixels are exact."""
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.25, 0.25]])
    return [Target(torch.tensor([0, 1]), boxes), Target(torch.zeros(0).long(), boxes[:0])]


def model_of():
    """The tiny baseline for two classes."""
    torch.manual_seed(0)
    return tiny_baseline(2)


def test_losses_equal_those_of_torchvision():
    """The same four losses as torchvision computes where its own transform makes the batch."""
    ours = model_of().train()
    theirs = copy.deepcopy(ours.network)
    theirs.transform = GeneralizedRCNNTransform(
        60, 96, [0.0] * 3, [1.0] * 3, size_divisible=8, _skip_resize=True
    )
    batch = Batch.from_images(sample_images())
    assert batch.sizes_px() == [(60, 96), (90, 64)]
    expected_targets = [
        {
            "boxes": torch.tensor([[24.0, 15, 72, 45], [12, 7.5, 36, 22.5]]),
            "labels": torch.tensor([1, 2]),
        },
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    images, ground_truth = sample_images(), targets()
    torch.manual_seed(2)
    losses = ours(batch, ground_truth)
    torch.manual_seed(2)
    expected = theirs(images, expected_targets)
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        assert torch.allclose(loss, expected[name], rtol=1e-5), name


def test_losses_of_micro_batches_add_up_to_the_mean_of_the_step():
    """Each loss is a mean over images, so it is weighted by its share of the window's images."""
    window = LossNormalizer.of(targets() + targets()[:1], 100)
    first = torchvision_losses({"loss_a": torch.tensor(3.0)}, targets(), window)
    second = torchvision_losses({"loss_a": torch.tensor(6.0)}, targets()[:1], window)
    assert float(first.total + second.total) == pytest.approx((3 + 3 + 6) / 3)
    assert first.terms.keys() == {"loss", "a"}


def test_every_parameter_learns_from_images_without_objects():
    """Otherwise distributed processes would wait for missing gradients."""
    model = model_of().train()
    empty = [targets()[1]] * 2
    loss = model.objective(lambda class_loss: pytest.fail("a baseline matches no sets"))
    batch = Batch.from_images([torch.randn(3, 64, 96)] * 2)
    loss(model(batch, empty), empty, LossNormalizer.of(empty, 1)).total.backward()
    groups = model.parameter_groups()
    assert all(p.grad is not None for group in groups.values() for p in group)
    assert groups["backbone"]
    assert groups["rest"]


def test_a_box_without_area_does_not_end_the_run():
    """torchvision rejects such boxes, so they get the smallest size it accepts."""
    thin = [Target(torch.tensor([0]), torch.tensor([[0.5, 0.5, 1e-9, 0.2]]))]
    losses = model_of().train()(Batch.from_images(sample_images()[:1]), thin)
    assert all(loss.isfinite() for loss in losses.values())


def test_the_losses_fall(data, tmp_path):
    """The log has torchvision's own loss terms."""
    run_tiny(data, tmp_path / "run", *BASELINE, "train.epochs=6", "train.lr=1e-2")
    rows = [row for row in log_rows(tmp_path / "run") if row["kind"] == "train"]
    assert {"loss", "classifier", "box_reg", "objectness", "rpn_box_reg"} <= rows[0].keys()
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]


@pytest.mark.parametrize("step", [3, 5])
def test_a_run_resumed_after_a_crash_is_bit_equal(data, whole, tmp_path, monkeypatch, step):
    """Also within an epoch, including the sampling of boxes."""
    with monkeypatch.context() as patch:
        crash_before(step, patch)
        with pytest.raises(CrashError):
            run_tiny(data, tmp_path / "run", *BASELINE)
    run_tiny(data, tmp_path / "run", *BASELINE, resume=True)
    assert_bit_equal(tmp_path / "run", whole)


def test_evaluate_and_predict_accept_the_trained_model(tmp_path):
    """Metrics, best weights and boxes in pixels are as for any model."""
    folder = write_data(tmp_path / "data", splits=("train", "val"))
    run = run_tiny(folder, tmp_path / "run", *BASELINE, "train.epochs=2")
    assert 0 <= run.best["AP"] <= 1
    report = setmatch.evaluate(run.model, folder, workers=0)
    assert pytest.approx(run.best["AP"]) == report.AP
    found = setmatch.predict(run.model, folder / "images" / "val_1.png")
    assert len(found) <= 6
    assert found.size_px == (64, 64)
