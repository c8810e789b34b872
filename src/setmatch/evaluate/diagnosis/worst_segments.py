"""The images whose segments are furthest from the truth, to be looked at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64

from setmatch.evaluate.panoptic_quality import Tally
from setmatch.structures.metadata import Categories
from setmatch.structures.segments import Segments

MOST = 12  # images that are kept to be shown


@dataclass(frozen=True, eq=False)
class Mistaken:
    """An image (its number in the index), what was found there, and how that compares."""

    image: int
    found: Segments
    tally: Tally

    @property
    def owed(self) -> float:
        """How many segments there are to match, the missed and the invented counting a half."""
        tally = self.tally
        return float((tally.matched + (tally.missed + tally.invented) / 2).sum())

    @property
    def weight(self) -> float:
        """How bad it is: what its quality lacks, weighed by its share of the image.

        So neither a crowd with a tenth of it missed nor a single segment comes first everywhere.
        """
        lacking = self.owed - float(self.tally.overlap.sum())
        return lacking**2 / max(self.owed, 1)


def worst_segments(mistaken: Sequence[Mistaken]) -> list[Mistaken]:
    """Return those to show, worst first; images without a mistake are left out."""
    order = sorted(mistaken, key=lambda each: (-each.weight, each.image))
    return [each for each in order[:MOST] if each.weight > 0]


def in_slots_of(
    found: Segments, slot_of: Int64[np.ndarray, " C"], categories: Categories
) -> Segments:
    """Return what a model found with the classes of a data set; of others is nothing.

    `slot_of` holds, for every class slot of the model, the slot of the data set, or -1.
    """
    slots = torch.from_numpy(slot_of)[found.classes.long()]
    known = slots >= 0
    number = torch.cat([known.new_zeros(1).long(), known.cumsum(0) * known])
    return replace(
        found,
        ids=number[found.ids.long()].int(),
        classes=slots[known],
        scores=found.scores[known],
        categories=categories,
    )
