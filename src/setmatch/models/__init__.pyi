from . import layers as layers
from .config import Width as Width
from .config import argument as argument
from .detector import Detector as Detector
from .detr.model import DETR as DETR
from .family import Family as Family
from .listing import AvailableModel as AvailableModel
from .listing import available_models as available_models
from .load import assemble as assemble
from .load import convert_weights as convert_weights
from .parameter_groups import split_backbone_params as split_backbone_params
from .parameter_groups import split_muon_params as split_muon_params
from .parameter_groups import trainable_parameters as trainable_parameters
from .registry import FAMILIES as FAMILIES
from .registry import LAYOUTS as LAYOUTS
from .registry import MODELS as MODELS
from .registry import build as build
from .registry import find_preset as find_preset
from .setmatch.model import SetMatchDetector as SetMatchDetector
from .weights.layouts.layout import CheckpointLayout as CheckpointLayout
from .weights.layouts.layout import LoadedWeights as LoadedWeights

__all__ = [
    "DETR",
    "FAMILIES",
    "LAYOUTS",
    "MODELS",
    "AvailableModel",
    "CheckpointLayout",
    "Detector",
    "Family",
    "LoadedWeights",
    "SetMatchDetector",
    "Width",
    "argument",
    "assemble",
    "available_models",
    "build",
    "convert_weights",
    "find_preset",
    "layers",
    "split_backbone_params",
    "split_muon_params",
    "trainable_parameters",
]
