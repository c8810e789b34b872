"""Arguments of DAB-DETR: Conditional DETR's, and patterns."""

from dataclasses import dataclass

from setmatch.models.conditional_detr.config import DilatedResNetName, PlacedShape
from setmatch.models.config import MOST_QUERIES, argument


@dataclass(frozen=True)
class AnchorShape(PlacedShape):
    """Depth and width of the transformer; each of `patterns` makes a query of every box.

    There are `num_queries` boxes. Without patterns, each is one query, whose content is zero.
    """

    patterns: int = argument(0, may_be_0=True, most=64)

    @property
    def all_queries(self) -> int:
        """The number of queries that an image has."""
        return self.num_queries * max(self.patterns, 1)

    def validate(self) -> str:
        """Return which arguments contradict each other, or an empty string."""
        if self.all_queries > MOST_QUERIES:
            return f"num_queries times patterns = {self.all_queries} can be at most {MOST_QUERIES}"
        return super().validate()


@dataclass(frozen=True)
class DilatedAnchorShape(AnchorShape):
    """The same for a dilated backbone."""

    backbone: DilatedResNetName = "resnet50"


R50, R50_DC5 = AnchorShape(), DilatedAnchorShape()
