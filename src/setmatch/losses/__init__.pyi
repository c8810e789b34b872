from .base import Loss as Loss
from .base import LossOutput as LossOutput
from .base import LossTerm as LossTerm
from .base import MatchedPredictions as MatchedPredictions
from .box_distribution import distillation_loss as distillation_loss
from .box_distribution import edge_loss as edge_loss
from .boxes import giou_loss as giou_loss
from .boxes import l1_loss as l1_loss
from .classification import ClassificationLoss as ClassificationLoss
from .classification import Focal as Focal
from .classification import IoUAware as IoUAware
from .classification import Softmax as Softmax
from .classification import Varifocal as Varifocal
from .criterion import Criterion as Criterion
from .matcher import match as match
from .normalizer import LossNormalizer as LossNormalizer
from .terms import TERMS as TERMS

__all__ = [
    "TERMS",
    "ClassificationLoss",
    "Criterion",
    "Focal",
    "IoUAware",
    "Loss",
    "LossNormalizer",
    "LossOutput",
    "LossTerm",
    "MatchedPredictions",
    "Softmax",
    "Varifocal",
    "distillation_loss",
    "edge_loss",
    "giou_loss",
    "l1_loss",
    "match",
]
