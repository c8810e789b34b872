"""Box geometry: equal to torchvision, and robust to degenerate boxes."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import generalized_box_iou

from setmatch.ops.boxes import cxcywh_to_xyxy, generalized_iou, xyxy_to_cxcywh


def _boxes(seed: int, count: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    center = torch.rand(count, 2, generator=random)
    size = 0.01 + torch.rand(count, 2, generator=random)
    return torch.cat([center, size], -1)


@given(st.integers(0, 10_000))
def test_generalized_iou_equals_torchvision(seed: int):
    """Pairwise by broadcasting."""
    a, b = cxcywh_to_xyxy(_boxes(seed, 5)), cxcywh_to_xyxy(_boxes(seed + 1, 3))
    ours = generalized_iou(a[:, None], b[None])
    assert torch.allclose(ours, generalized_box_iou(a, b), atol=1e-6)


@given(st.integers(0, 10_000))
def test_box_format_conversions_are_inverse(seed: int):
    boxes = _boxes(seed, 4)
    assert torch.allclose(xyxy_to_cxcywh(cxcywh_to_xyxy(boxes)), boxes, atol=1e-6)


def test_giou_is_1_for_equal_boxes_and_near_minus_1_for_distant_ones():
    box = torch.tensor([0.0, 0.0, 1.0, 1.0])
    far = torch.tensor([99.0, 99.0, 100.0, 100.0])
    assert generalized_iou(box, box) == 1
    assert generalized_iou(box, far) < -0.99
    assert generalized_iou(box, far) == generalized_iou(far, box)


def test_degenerate_boxes_never_raise():
    """detr #28: boxes without area, or with x1 < x0, give a finite value."""
    point = torch.tensor([0.5, 0.5, 0.5, 0.5])
    inverted = torch.tensor([0.9, 0.9, 0.1, 0.1])
    box = torch.tensor([0.0, 0.0, 1.0, 1.0])
    for broken in (point, inverted):
        for other in (box, broken):
            assert torch.isfinite(generalized_iou(broken, other))


def test_giou_has_a_gradient_without_overlap():
    box = torch.tensor([0.1, 0.1, 0.2, 0.2], requires_grad=True)
    generalized_iou(box, torch.tensor([0.7, 0.7, 0.9, 0.9])).backward()
    assert torch.isfinite(box.grad).all()
    assert box.grad.abs().sum() > 0
