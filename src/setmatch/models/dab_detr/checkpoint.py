"""Checkpoints of DAB-DETR: the authors' code (.pth) and transformers' layout."""

from collections.abc import Collection

from setmatch.models.conditional_detr.checkpoint import (
    PlacedFamily,
    read_original,
    read_transformers,
)
from setmatch.models.dab_detr.key_map import ORIGINAL, TRANSFORMERS
from setmatch.models.weights.downloads.download import PublishedRepository

# The authors' files, converted by transformers' contributors.
PUBLISHED = {
    "dab_detr_r50": PublishedRepository("IDEA-Research/dab-detr-resnet-50", None, "Apache-2.0"),
    "dab_detr_r50_dc5": PublishedRepository(
        "IDEA-Research/dab-detr-resnet-50-dc5", None, "Apache-2.0"
    ),
}
DAB = PlacedFamily(
    "DAB-DETR",
    "dab_detr_r50",
    "dab-detr",
    ORIGINAL,
    TRANSFORMERS,
    {
        "activation_function": "prelu",
        "temperature_height": 20,
        "temperature_width": 20,
        "sine_position_embedding_scale": None,
        "normalize_before": False,
        "keep_query_pos": False,
        "query_dim": 4,
    },
    PUBLISHED,
    (
        ("transformer.decoder.bbox_embed.", "bbox_embed."),
        ("model.decoder.bbox_embed.", "bbox_predictor."),
    ),
    has_patterns=True,
    required_args={"pe_temperatureH": 20, "pe_temperatureW": 20},
)


def _matches_original(keys: Collection[str]) -> bool:
    """Recognize learned boxes, and the sides that stretch attention."""
    part = "transformer.decoder.ref_anchor_head.layers.0.weight"
    return part in keys and "refpoint_embed.weight" in keys


def _matches_transformers(keys: Collection[str]) -> bool:
    """Recognize learned boxes, and the sides that stretch attention."""
    part = "model.decoder.ref_anchor_head.layers.0.weight"
    return part in keys and "model.query_refpoint_embeddings.weight" in keys


LAYOUTS = (
    DAB.layout("original", _matches_original, read_original),
    DAB.layout("transformers", _matches_transformers, read_transformers),
)
