"""The graph that a page runs: the network, with its detections ranked by score.

A page resizes images itself: in WebGPU, ONNX Runtime lacks what an end-to-end graph does first.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from setmatch.deploy.formats.onnx import exported_of
from setmatch.deploy.verification.compare_detections import RankedDetections
from setmatch.inference.engines.exported_card import KEY
from setmatch.inference.engines.onnx_session import OnnxSession
from setmatch.inference.engines.session import output_names
from setmatch.ops.boxes import cxcywh_to_xyxy

if TYPE_CHECKING:
    import onnx

RANKED = ("ranked_scores", "ranked_classes", "ranked_queries")


def ranking_network(end_to_end: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return the part of an end-to-end graph from preprocessed images to ranked detections."""
    import onnx
    import onnx.utils

    card = dataclasses.replace(exported_of(end_to_end), end_to_end=False)
    outputs = [*output_names(card.has_masks), *RANKED]
    network: onnx.ModelProto = onnx.utils.Extractor(end_to_end).extract_model(["pixels"], outputs)
    onnx.helper.set_model_props(network, {KEY: card.to_json()})
    network.producer_name = end_to_end.producer_name
    network.producer_version = end_to_end.producer_version
    return network


def page_outputs(has_masks: bool) -> list[str]:
    """Return the names of the outputs that a page reads."""
    return ["cxcywh", *RANKED, *(["mask_logits"] if has_masks else [])]


def page_detections(
    path: Path, pixels: Float[Tensor, "1 3 H W"], size_px: tuple[int, int]
) -> RankedDetections:
    """Return the detections of one image as a page computes them, in pixels of (height, width)."""
    cxcywh, scores, classes, queries = (
        torch.from_numpy(each[0])
        for each in OnnxSession(path).run(["cxcywh", *RANKED], {"pixels": pixels.numpy()})
    )
    scale = torch.tensor([size_px[1], size_px[0]] * 2)
    return RankedDetections(scores, classes, cxcywh_to_xyxy(cxcywh[queries]) * scale)
