"""What every query predicts by itself, whether or not it becomes a detection."""

from jaxtyping import Float
from torch import Tensor

from setmatch.errors import diverged
from setmatch.losses.classification import ClassificationLoss
from setmatch.structures.attention import QueryPredictions
from setmatch.structures.outputs import Predictions


def query_predictions(
    logits: Float[Tensor, "Q C"], cxcywh: Float[Tensor, "Q 4"], class_loss: ClassificationLoss
) -> QueryPredictions:
    """Return the best class of every query, even where one query gives several detections."""
    # Decoded as an image of its own, a query competes with no other.
    best = class_loss.decode(logits[:, None].float())
    return QueryPredictions(
        best.class_index[:, 0].cpu(), best.score[:, 0].cpu(), cxcywh.float().cpu()
    )


def require_finite(predictions: Predictions) -> None:
    """Raise WeightsError if a logit or box is not finite."""
    if not (predictions.logits.isfinite().all() and predictions.cxcywh.isfinite().all()):
        raise diverged("scores or boxes")
