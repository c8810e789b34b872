"""What a run says of itself before its first step, and what the watch must know by then."""

import numpy as np

from setmatch.data.sampler import accumulation
from setmatch.models.detr.model import GlobalDetector
from setmatch.train.faults import Origin
from setmatch.train.learner import Learner
from setmatch.train.meter import listed
from setmatch.train.micro_batch import at_once
from setmatch.train.plan import Plan
from setmatch.train.start import Start


def introduction(start: Start, plan: Plan, learner: Learner) -> list[str]:
    """Say in plain words what is about to happen."""
    training, settings, world = start.training, start.recipe.train, learner.runtime.world
    detector, names = learner.detector, start.training.categories
    known = listed(tuple(names.name(slot) for slot in range(len(names))))
    validation = (
        f"{len(start.validation)} validation images"
        if start.validation is not None
        else "no validation split (val or valid), so nothing is evaluated and the newest is kept"
    )
    trained = sum(p.numel() for group in detector.parameter_groups().values() for p in group)
    images = at_once(settings, learner.runtime)
    parts = accumulation(settings.batch_size, images, world)
    precision = str(learner.precision).removeprefix("torch.")
    sentences = [
        f"data: {len(training)} training images, {len(training.annotation_ids)} annotations; "
        f"{validation}",
        f"classes: {len(names)} ({known})",
        f"model: {detector.card.preset}, {detector.num_queries} queries, {trained:,} parameters to "
        f"train; from {start.weights}",
        f"plan: {_length(plan)} of {settings.batch_size} images "
        f"({world} process(es) x {parts} micro-batch(es) of {images})",
        f"computing on {learner.runtime.device} in {precision}",
        *training.notes,
    ]
    if settings.part == "masks":
        sentences.append("the mask head alone is trained; the detector stays as it is")
    return [*sentences, *start.check.sentences()]


def origin_of(start: Start, plan: Plan) -> Origin:
    """Return what the watch must know of a run before its first step."""
    names, learnt = start.training.categories, ~start.training.crowd
    objects = np.bincount(start.training.slots[learnt], minlength=len(names)).tolist()
    return Origin(
        plan,
        published=isinstance(start.detector, GlobalDetector),
        loaded=start.loaded,
        objects={names.name(slot): count for slot, count in enumerate(objects)},
    )


def _length(plan: Plan) -> str:
    if plan.by_clock:
        return f"{plan.settings.minutes:g} minutes of steps"
    return f"{plan.settings.epochs} epochs are {plan.steps} steps"
