"""The card inside an exported file: all that its predictions need, and what it was made from."""

import dataclasses
import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

from safetensors.torch import save

from setmatch.errors import ConfigError
from setmatch.inference.engines.exported_card import ExportedCard
from setmatch.losses.classification import CLASSIFICATION_LOSSES, ClassificationLoss
from setmatch.models.detector import Detector
from setmatch.structures.metadata import ModelCard


def exported_card(
    detector: Detector,
    size_px: tuple[int, int] | None,
    end_to_end: bool,
    libraries: Sequence[str],
    facts: Mapping[str, str | int],
) -> ExportedCard:
    """Return the card for the exported file of a detector, made with `libraries` and `facts`.

    Raises ConfigError for a model that cannot be exported.
    """
    if not detector.has_queries:
        raise ConfigError(
            f"model {detector.card.preset}: a baseline of torchvision, which is not exported; "
            "export a detection transformer (see setmatch models)"
        )
    preprocessing = detector.card.preprocessing
    if size_px is not None:
        preprocessing = dataclasses.replace(preprocessing, size_px=size_px)
    card: ModelCard = dataclasses.replace(detector.card, preprocessing=preprocessing)
    versions = {name: importlib.metadata.version(name) for name in ("setmatch", *libraries)}
    return ExportedCard(
        card,
        weights_sha256(detector),
        _loss_settings(detector.class_loss, detector.card.preset),
        detector.num_queries,
        detector.fixed_queries,
        detector.has_masks,
        end_to_end,
        detector.default_threshold,
        {**versions, **facts},
    )


def weights_sha256(detector: Detector) -> str:
    """Return the SHA-256 of the weights as `save` writes them."""
    state = {key: value.detach().contiguous() for key, value in detector.state_dict().items()}
    return hashlib.sha256(save(state)).hexdigest()


def _loss_settings(loss: ClassificationLoss, preset: str) -> dict[str, Any]:
    """Return the name and settings of a classification loss."""
    for name, kind in CLASSIFICATION_LOSSES.items():
        if type(loss) is kind:
            return {"name": name, **dataclasses.asdict(loss)}
    raise ConfigError(
        f"model {preset}: its classification loss {type(loss).__name__} cannot be named in a file; "
        f"use one of setmatch.losses: {', '.join(CLASSIFICATION_LOSSES)}"
    )
