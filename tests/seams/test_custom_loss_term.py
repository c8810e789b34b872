"""A loss term from outside the package is trained, logged, shown and drawn by its name alone."""

import torch

from sample_datasets import index_of
from setmatch.data.batches.loader import Minibatch
from setmatch.distributed import Distributed
from setmatch.losses.base import LossTerm
from setmatch.losses.criterion import Criterion
from setmatch.losses.normalizer import LossNormalizer
from setmatch.losses.terms import TERMS
from setmatch.models.registry import build
from setmatch.recipe_text import load_recipe
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import ModelCard
from setmatch.training.logging.curves.history import read_history
from setmatch.training.logging.curves.panels import panels
from setmatch.training.logging.run_logger import open_run_logger
from setmatch.training.logging.step_metrics import SkippedSteps
from setmatch.training.monitor.rules import RunContext
from setmatch.training.optim.batch_norm_stats import BatchNormStats
from setmatch.training.optim.optimizer import build_optimizer
from setmatch.training.schedule.schedule import make_schedule
from setmatch.training.step import TrainStep


def aspect_loss(matched):
    """Compare the logarithms of width / height, per target box of the step."""
    predicted, target = matched.predicted_cxcywh, matched.target_cxcywh
    error = (predicted[:, 2:].log() - target[:, 2:].log()).diff(dim=1).abs()
    return error.view(matched.layers, -1).sum(1) / matched.num_boxes


def test_a_custom_term_is_trained_logged_shown_and_drawn(tmp_path, capfd):
    recipe = load_recipe(overrides=["loss.extra.aspect=5", "train.lr=1e-3"])
    process = Distributed(torch.device("cpu"))
    data = index_of([7, 9], [1, 2], [0, 1], [0, 1], [[1, 2, 90, 40]] * 2)
    detector = build(ModelCard("setmatch_n", {"num_queries": 9}, data.categories))
    terms = (*TERMS, LossTerm("aspect", "aspect", aspect_loss))
    criterion = Criterion(detector.class_loss, recipe.matching, recipe.loss, terms)
    optimizer = build_optimizer(detector.parameter_groups(), recipe.train)
    norms = BatchNormStats(detector, process)
    step = TrainStep(
        process,
        detector,
        detector,
        criterion,
        criterion,
        optimizer,
        norms,
        None,
        torch.float32,
        1.0,
    )
    target = Target(torch.tensor([0]), torch.tensor([[0.5, 0.5, 0.6, 0.2]]))
    images = Minibatch(Batch.from_images([torch.randn(3, 64, 64)] * 2), (target,) * 2, (7, 9))
    plan = make_schedule(2, recipe.train)
    context = RunContext(plan, fixed_queries=False, loaded_weights=None, objects={})
    logger = open_run_logger(tmp_path, plan, process, data, 0, SkippedSteps(), context)
    for number in range(8):
        result = step.step([images], LossNormalizer.of(images.targets, 9), [number])
        logger.add_step(number, float(number), {}, result)
        logger.write_line(number)
    history = read_history(tmp_path)
    values = [value for _, value in history.points("train", "aspect")]
    assert values[-1] < 0.9 * values[0]
    assert "aspect loss, last layer" in [panel.title for panel in panels([history])]
    assert f"aspect {values[0]:.3g}" in capfd.readouterr().err
