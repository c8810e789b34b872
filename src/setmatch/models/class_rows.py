"""Which tensors of a model hold rows for each class, so that they can be moved to other classes."""

import re
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ClassRows:
    """Tensors whose first axis runs over classes: `per_class` rows for each of them.

    The first `background` classes stand for no object. With several `anchors` all rows repeat for
    each anchor.
    """

    names: re.Pattern[str]
    per_class: int = 1
    background: int = 0
    anchors: int = 1

    def by_class(self, tensor: Tensor) -> Float[Tensor, "classes anchors per_class *n"]:
        """Return a view whose first axis is the class."""
        return tensor.view(self.anchors, -1, self.per_class, *tensor.shape[1:]).transpose(0, 1)


QUERY_CLASS_ROWS = (
    ClassRows(re.compile(r"(class_head|queries\.class_head|decoder\.class_heads\.\d+)\.\w+")),
    ClassRows(re.compile(r"denoising\.embedding\.weight")),
)
