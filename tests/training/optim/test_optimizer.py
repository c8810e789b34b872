"""The optimizer, the EMA and the schedule."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from setmatch.config import TrainSettings
from setmatch.distributed import Distributed
from setmatch.training.optim.batch_norm_stats import BatchNormStats
from setmatch.training.optim.ema import EMA
from setmatch.training.optim.optimizer import (
    apply_gradients,
    build_optimizer,
    learning_rates,
    set_learning_rates,
)
from setmatch.training.schedule.schedule import make_schedule


def model_and_optimizer(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 5))
    groups = {"backbone": list(model[0].parameters()), "rest": list(model[1:].parameters())}
    return model, build_optimizer(groups, TrainSettings(weight_decay=0.1))


def take_step(model, optimizer, pixels):
    model(pixels).square().sum().backward()
    return apply_gradients(optimizer, 0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_nonfinite_step_changes_no_bit(value):
    """One bad gradient leaves parameters, moments and step counts of all groups as they were."""
    model, optimizer = model_and_optimizer()
    take_step(model, optimizer, torch.randn(2, 3, 6, 6))
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict(model))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model[0].weight.grad[0, 0, 0, 0] = value
    _, finite = apply_gradients(optimizer, 0.1)
    assert not finite
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    for group, parameters in optimizer.state_dict(model).items():
        for parameter, moments in parameters.items():
            before = state[group][parameter]
            assert all(torch.equal(value, before[key]) for key, value in moments.items())


def test_a_skipped_step_does_not_affect_later_steps():
    """Good, bad, good gives the weights of good, good."""
    first, second = torch.randn(2, 3, 6, 6), torch.randn(2, 3, 6, 6)
    model, optimizer = model_and_optimizer()
    take_step(model, optimizer, first)
    take_step(model, optimizer, second)
    other, its_optimizer = model_and_optimizer()
    norms = BatchNormStats(other, Distributed(torch.device("cpu")))
    for pixels in (first, torch.full_like(first, float("nan")), second):
        norms.snapshot()
        _, finite = take_step(other, its_optimizer, pixels)
        norms.commit(finite)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("undecayed", [(), (0,), (1, 4), (2, 3, 5), range(6)])
@pytest.mark.parametrize("halved", [(), (0, 3), (5,)])
def test_each_parameter_keeps_its_moments_in_other_groups(undecayed, halved):
    """Rates and decays may change on resume, and with them the order of parameters."""
    model, optimizer = model_and_optimizer()
    take_step(model, optimizer, torch.randn(2, 3, 6, 6))
    states = copy.deepcopy(optimizer.state_dict(model))
    assert {*states["SkippingAdamW"]} == {name for name, _ in model.named_parameters()}
    parameters = [*model.parameters()]
    groups = {"rest": parameters[:2], "backbone": parameters[2:]}
    factors = {id(parameters[number]): 0.5 for number in halved}
    without = {id(parameters[number]) for number in undecayed}
    other = build_optimizer(groups, TrainSettings(weight_decay=0.1), factors, without)
    other.load_state_dict(states, model)
    (adamw,) = other.optimizers
    for name, parameter in model.named_parameters():
        for key, value in states["SkippingAdamW"][name].items():
            assert torch.equal(adamw.state[parameter][key], value), (name, key)


def test_the_state_of_another_optimizer_is_refused():
    model, optimizer = model_and_optimizer()
    take_step(model, optimizer, torch.randn(2, 3, 6, 6))
    (moments,) = optimizer.state_dict(model).values()
    with pytest.raises(ValueError, match="no parameter x"):
        optimizer.load_state_dict({"SkippingAdamW": {**moments, "x": {}}}, model)
    numbered = {"SkippingAdamW": dict(enumerate(moments.values()))}
    with pytest.raises(ValueError, match="older version"):
        optimizer.load_state_dict(numbered, model)


def test_gradients_are_clipped_by_their_norm_over_all_groups():
    """The norm returned is the one before clipping, over backbone and rest together."""
    model, optimizer = model_and_optimizer()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    count = sum(p.numel() for p in model.parameters())
    norm, finite = apply_gradients(optimizer, 0.1)
    assert finite
    assert norm.item() == pytest.approx(count**0.5, rel=1e-5)
    assert all(p.grad is None for p in model.parameters())


def test_the_backbone_has_its_own_learning_rate():
    """Both rates are scaled by the schedule."""
    _, optimizer = model_and_optimizer()
    set_learning_rates(optimizer, 0.5)
    set_learning_rates(optimizer, 0.1)
    rates = learning_rates(optimizer)
    assert rates == {"backbone_lr": pytest.approx(1e-6), "lr": pytest.approx(1e-5)}


def test_only_learning_rates_in_use_are_reported():
    """A model without a separate backbone has no backbone_lr, one without Muon no muon_lr."""
    hidden, rest = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    groups = {"matrices": [hidden], "rest": [rest]}
    optimizer = build_optimizer(groups, TrainSettings(lr=1e-3, muon_lr=0.02))
    set_learning_rates(optimizer, 0.5)
    assert learning_rates(optimizer) == {"lr": 5e-4, "muon_lr": 0.01}
    assert learning_rates(build_optimizer(groups, TrainSettings(lr=1e-3))) == {"lr": 1e-3}


def test_ema_follows_the_ramped_decay_and_ignores_skipped_steps():
    """The average equals the formula over finite steps; a skipped step changes nothing."""
    torch.manual_seed(0)
    model = nn.BatchNorm1d(3)
    average = EMA(model, decay=0.5)
    expected = model.running_mean.clone()
    for step, finite in enumerate([True, True, False, True, True]):
        model.running_mean.normal_()
        model.num_batches_tracked += 1
        average.update(torch.tensor(finite))
        done = step - (step > 2)
        decay = min(0.5, (1 + done) / (10 + done))
        if finite:
            expected = decay * expected + (1 - decay) * model.running_mean
        torch.testing.assert_close(average.model.running_mean, expected)
    assert average.updates == 4
    assert average.model.num_batches_tracked == 5
    assert not any(parameter.requires_grad for parameter in average.model.parameters())


@pytest.mark.parametrize(("decay", "warmup"), [(0.9999, 1000), (0.9999, 2000), (0.993, 100)])
def test_an_average_that_warms_up_has_the_decay_of_rtdetr(decay: float, warmup: int):
    """decay * (1 - exp(-n / warmup)) at the n-th finite step, from 1."""
    model = nn.BatchNorm1d(2)
    average = EMA(model, decay, warmup)
    expected, taken = model.running_mean.double(), 0
    for step in range(40):
        model.running_mean.normal_()
        finite = step % 7 != 3
        average.update(torch.tensor(finite))
        if finite:
            taken += 1
            kept = decay * (1 - math.exp(-taken / warmup))
            expected = kept * expected + (1 - kept) * model.running_mean
        torch.testing.assert_close(average.model.running_mean.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("steps", "age"), [(60, 6), (600, 60), (4000, 400), (20000, 500)])
def test_the_mean_age_of_the_ema_is_a_tenth_of_the_steps_or_500(steps, age):
    """Measured on weights that grow linearly from 0 to 1."""
    model = nn.BatchNorm1d(1)
    average = EMA(model, decay=0.998)
    for step in range(steps):
        model.running_mean.fill_((step + 1) / steps)
        average.update(torch.tensor(True))
    assert average.model.running_mean.item() == pytest.approx(1 - age / steps, abs=0.01)


@given(
    images=st.integers(1, 60),
    batch_size=st.integers(1, 40),
    epochs=st.integers(1, 6),
    every=st.integers(1, 4),
)
def test_every_epoch_ends_once(images, batch_size, epochs, every):
    """Whatever the sizes, epochs end in order, all of them, and the last step evaluates."""
    settings = TrainSettings(epochs=epochs, batch_size=batch_size, evaluate_every=every)
    plan = make_schedule(images, settings)
    ended = [plan.epochs_ended(step) for step in range(plan.steps)]
    assert ended == sorted(ended)
    assert ended[-1] == epochs
    assert (plan.steps - 1) * batch_size < epochs * images <= plan.steps * batch_size
    assert plan.evaluation_due(plan.steps - 1)
    assert all(plan.checkpoint_due(step) for step in range(plan.steps) if plan.evaluation_due(step))
    due = sum(plan.evaluation_due(step) for step in range(plan.steps))
    assert due <= epochs // every + 1


def test_published_schedule_drops_once():
    """Full rate until the drop epoch, a tenth from then on."""
    plan = make_schedule(10, TrainSettings(epochs=6, batch_size=4, drop_epoch=4))
    factors = [plan.lr_factor(step) for step in range(plan.steps)]
    assert factors == [1.0] * 10 + [0.1] * 5


def test_cosine_warms_up_and_ends_near_zero():
    """It rises linearly to 1 over the warm-up, then only falls."""
    plan = make_schedule(
        10, TrainSettings(epochs=10, batch_size=1, schedule="cosine", warmup_steps=10)
    )
    factors = [plan.lr_factor(step) for step in range(plan.steps)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[9:] == sorted(factors[9:], reverse=True)
    assert 0 < factors[-1] < 1e-3


def test_every_micro_batch_has_its_own_seed():
    """Seeds are distinct and a pure function of the recipe's seed, the step and the micro-batch."""
    plan = make_schedule(10, TrainSettings(seed=3))
    seeds = {plan.seed(step, part) for step in range(50) for part in range(4)}
    assert len(seeds) == 200
    assert plan.seed(7, 1) == make_schedule(99, TrainSettings(seed=3, lr=1.0)).seed(7, 1)


def test_a_time_based_schedule_depends_on_seconds_only():
    """Warm-up, cosine, ten evaluations and the end depend on the seconds spent, not on steps."""
    plan = make_schedule(100, TrainSettings(minutes=1, schedule="cosine", batch_size=10))
    assert plan.by_clock
    factors = [plan.lr_factor(7, spent_s) for spent_s in (0.0, 0.6, 1.2, 30.0, 59.9)]
    assert 0 < factors[0] < factors[1] < factors[2]
    assert factors[3] == pytest.approx(0.5, abs=0.01)
    assert factors[4] < 0.01
    assert [plan.evaluation_due(5, t, t + 1.0) for t in (4.5, 5.5, 6.5)] == [False, True, False]
    assert sum(plan.evaluation_due(t, float(t), t + 1.0) for t in range(60)) == 10
    assert not plan.is_over(10**6, 59.9)
    assert plan.is_over(3, 60.0)


def test_slow_evaluations_become_rare():
    """In a time-based run, evaluations get 3% of the time."""
    plan = make_schedule(100, TrainSettings(minutes=1, schedule="cosine", batch_size=10))
    assert plan.evaluation_due(5, 5.5, 6.5)
    assert not plan.evaluation_due(5, 11.5, 12.5, evaluation_s=1.0)
    assert plan.evaluation_due(5, 35.5, 36.5, evaluation_s=1.0)


@pytest.mark.parametrize("minutes", [0.0, 2.0])
def test_a_cosine_may_start_late_end_early_and_not_at_zero(minutes: float):
    """Flat, half a cosine, flat again, as in the published training of DEIM."""
    settings = TrainSettings(
        epochs=10,
        minutes=minutes,
        batch_size=1,
        schedule="cosine",
        cosine_from=0.5,
        cosine_until=0.8,
        final_lr=0.4,
    )
    plan = make_schedule(100, settings)
    length = 120.0 if minutes else 1000
    factors = [
        plan.lr_factor(int(done * length), done * length)
        for done in (0.1, 0.3, 0.5, 0.65, 0.8, 0.9, 0.999)
    ]
    assert factors == pytest.approx([1, 1, 1, 0.7, 0.4, 0.4, 0.4])


def test_some_parameters_do_not_decay():
    """Without a gradient to follow, only decay changes a weight."""
    kept, decayed, slow = (nn.Parameter(torch.ones(2)) for _ in range(3))
    settings = TrainSettings(lr=0.1, weight_decay=0.5)
    groups = {"rest": [kept, decayed, slow]}
    optimizer = build_optimizer(groups, settings, {id(slow): 0.1}, {id(kept)})
    for parameter in (kept, decayed, slow):
        parameter.grad = torch.zeros(2)
    apply_gradients(optimizer, 0.1)
    values = [parameter[0].item() for parameter in (kept, decayed, slow)]
    assert values == pytest.approx([1.0, 0.95, 0.995])
    assert learning_rates(optimizer) == {"lr": 0.1}
