from . import transforms as transforms
from .convert import convert_dataset as convert_dataset
from .dataset import DetectionDataset as DetectionDataset
from .formats.base import DatasetFormat as DatasetFormat
from .formats.base import SplitSource as SplitSource
from .formats.registry import FORMATS as FORMATS
from .loader import evaluation_batches as evaluation_batches
from .loader import training_batches as training_batches
from .open import open_dataset as open_dataset
from .synthetic.scenes import write_scenes as write_scenes

__all__ = [
    "FORMATS",
    "DatasetFormat",
    "DetectionDataset",
    "SplitSource",
    "convert_dataset",
    "evaluation_batches",
    "open_dataset",
    "training_batches",
    "transforms",
    "write_scenes",
]
