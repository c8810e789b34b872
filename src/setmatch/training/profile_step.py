"""How long a training step takes on this machine, measured by taking a few."""

import time
from itertools import islice

import torch

from setmatch.config import Recipe
from setmatch.data.audit.image_size import preprocessing_of
from setmatch.data.audit.preflight import check_data
from setmatch.data.dataset import DetectionDataset
from setmatch.data.loader import training_batches
from setmatch.data.sampler import grad_accum_steps
from setmatch.distributed import init_distributed
from setmatch.losses.normalizer import LossNormalizer
from setmatch.models.registry import build
from setmatch.structures.metadata import ModelCard
from setmatch.training.micro_batch import explain_oom, micro_batch_size
from setmatch.training.progressive_resizing import resolution_scale
from setmatch.training.setup import TrainingSetup, build_train_step

_STEPS = 3


def seconds_per_step(recipe: Recipe, training: DetectionDataset) -> float:
    """Return the seconds of one optimizer step, reading images included, in one process.

    The model has random weights; the first step, which pays for imports and caches, does not
    count. Pictures are as large as in the third of the run that each of the others stands for.
    Raises ConfigError, and DataError for images that cannot be read.
    """
    preprocessing, settings = preprocessing_of(recipe.data), recipe.train
    card = ModelCard(
        recipe.model.preset, recipe.model.arguments, training.categories, preprocessing
    )
    detector = build(card)
    check = check_data(training, None, detector.num_queries, preprocessing)
    start = TrainingSetup(recipe, training, None, check, detector, None, {}, "random weights")
    with init_distributed() as runtime, explain_oom(micro_batch_size(settings, runtime)):
        learner = build_train_step(start, runtime)
        images = micro_batch_size(settings, runtime)
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
        began = time.perf_counter()
        for step in range(1 + _STEPS):
            window = list(islice(batches, grad_accum_steps(settings.batch_size, images, 1)))
            targets = [target for minibatch in window for target in minibatch.targets]
            normalizer = LossNormalizer.of(targets, detector.num_queries)
            progress = (step - 0.5) / _STEPS  # in the middle of a third of the run
            share = resolution_scale(progress, settings.full_size_at) if step else 1.0
            learner.learn(window, normalizer, range(len(window)), share)
            if runtime.device.type == "cuda":
                torch.cuda.synchronize(runtime.device)
            began = time.perf_counter() if step == 0 else began
        return (time.perf_counter() - began) / _STEPS
