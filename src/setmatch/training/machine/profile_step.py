"""Measure the time of a training step on this machine."""

import time
from itertools import islice

import torch

from setmatch.config import Recipe
from setmatch.data.audit.preflight import check_data
from setmatch.data.audit.recommend.image_size import preprocessing_of
from setmatch.data.batches.loader import training_batches
from setmatch.data.batches.sampler import grad_accum_steps
from setmatch.data.dataset import DetectionDataset
from setmatch.distributed import init_distributed
from setmatch.losses.normalizer import LossNormalizer
from setmatch.models.registry import build
from setmatch.structures.metadata import ModelCard
from setmatch.training.machine.micro_batch import explain_oom, micro_batch_size
from setmatch.training.schedule.progressive_resizing import resolution_scale
from setmatch.training.start.setup import TrainingSetup, build_train_step
from setmatch.training.start.training_data import TrainingData

_STEPS = 3


def seconds_per_step(recipe: Recipe, training: DetectionDataset) -> float:
    """Return the seconds of one optimizer step in one process, including loading the images.

    The mean of three steps after one warm-up step, of a model with random weights. Each step uses
    the image size of its third of the run (see `progressive_resizing`). Raises ConfigError, and
    DataError for images that cannot be read.
    """
    preprocessing, settings = preprocessing_of(recipe.data), recipe.train
    card = ModelCard(
        recipe.model.preset, recipe.model.arguments, training.categories, preprocessing
    )
    detector = build(card)
    check = check_data(training, None, detector.num_queries, preprocessing)
    data = TrainingData(training, None)
    setup = TrainingSetup(recipe, data, check, detector, None, {}, "random weights")
    with init_distributed() as distributed, explain_oom(micro_batch_size(settings, distributed)):
        train_step = build_train_step(setup, distributed)
        images = micro_batch_size(settings, distributed)
        batches = iter(
            training_batches(
                training,
                recipe.data,
                preprocessing,
                batch_size=settings.batch_size,
                micro_batch=images,
                rank=0,
                world=1,
                first_step=0,
                steps=1 + _STEPS,
                seed=settings.seed,
                masks=detector.mask_head is not None,
            )
        )
        start_s = time.perf_counter()
        for step in range(1 + _STEPS):
            window = list(islice(batches, grad_accum_steps(settings.batch_size, images, 1)))
            targets = [target for minibatch in window for target in minibatch.targets]
            normalizer = LossNormalizer.of(targets, detector.num_queries)
            progress = (step - 0.5) / _STEPS  # in the middle of a third of the run
            scale = resolution_scale(progress, settings.full_size_at) if step else 1.0
            train_step.step(window, normalizer, range(len(window)), scale)
            if distributed.device.type == "cuda":
                torch.cuda.synchronize(distributed.device)
            start_s = time.perf_counter() if step == 0 else start_s
        return (time.perf_counter() - start_s) / _STEPS
