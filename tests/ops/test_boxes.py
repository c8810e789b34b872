"""Box geometry against torchvision, and its limits."""

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
    """Pairwise through broadcasting, for any boxes with area."""
    a, b = cxcywh_to_xyxy(_boxes(seed, 5)), cxcywh_to_xyxy(_boxes(seed + 1, 3))
    ours = generalized_iou(a[:, None], b[None])
    assert torch.allclose(ours, generalized_box_iou(a, b), atol=1e-6)


@given(st.integers(0, 10_000))
def test_formats_invert_each_other(seed: int):
    """Corners to center and back."""
    boxes = _boxes(seed, 4)
    assert torch.allclose(xyxy_to_cxcywh(cxcywh_to_xyxy(boxes)), boxes, atol=1e-6)


def test_a_box_covers_itself_and_misses_what_is_far():
    """1 for the same box; toward -1 for boxes far apart, in both directions alike."""
    box = torch.tensor([0.0, 0.0, 1.0, 1.0])
    far = torch.tensor([99.0, 99.0, 100.0, 100.0])
    assert generalized_iou(box, box) == 1
    assert generalized_iou(box, far) < -0.99
    assert generalized_iou(box, far) == generalized_iou(far, box)


def test_boxes_without_area_and_inside_out_never_raise():
    """detr #28: a broken box is a number, not the end of a run."""
    point = torch.tensor([0.5, 0.5, 0.5, 0.5])
    turned = torch.tensor([0.9, 0.9, 0.1, 0.1])
    box = torch.tensor([0.0, 0.0, 1.0, 1.0])
    for broken in (point, turned):
        for other in (box, broken):
            assert torch.isfinite(generalized_iou(broken, other))


def test_gradients_are_finite_even_without_overlap():
    """A box that touches nothing still knows where to go."""
    box = torch.tensor([0.1, 0.1, 0.2, 0.2], requires_grad=True)
    generalized_iou(box, torch.tensor([0.7, 0.7, 0.9, 0.9])).backward()
    assert torch.isfinite(box.grad).all()
    assert box.grad.abs().sum() > 0
