"""Panoptic segments of some classes."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from setmatch.structures.metadata import Categories
from setmatch.structures.segments import Segments

NAMES = Categories((1, 2, 3), ("a", "b", "c"))


@given(
    st.lists(st.integers(0, 2), max_size=6),
    st.frozensets(st.integers(0, 2)),
    st.integers(0, 999),
)
def test_segments_of_other_classes_become_unlabeled(classes, wanted, seed):
    """The others keep their pixels, scores and order."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(len(classes) + 1, (5, 7), generator=generator).int()
    scores = torch.rand(len(classes), generator=generator)
    every = Segments(ids, torch.tensor(classes, dtype=torch.int64), scores, NAMES)
    chosen = every.of_classes(wanted)
    kept = [number for number, each in enumerate(classes) if each in wanted]
    assert chosen.classes.tolist() == [classes[number] for number in kept]
    assert chosen.scores.tolist() == [scores[number].item() for number in kept]
    assert torch.equal(chosen.masks().unpack(), every.masks().unpack()[kept])
    assert chosen.area_px.sum() == (chosen.ids > 0).sum()
    assert every.of_classes(None) is every
