from .batches import transforms as transforms
from .batches.loader import evaluation_batches as evaluation_batches
from .batches.loader import training_batches as training_batches
from .convert import convert_dataset as convert_dataset
from .dataset import DetectionDataset as DetectionDataset
from .formats.base import DatasetFormat as DatasetFormat
from .formats.base import SplitSource as SplitSource
from .formats.build import AnnotationBuffer as AnnotationBuffer
from .formats.build import ImageTable as ImageTable
from .formats.build import assemble as assemble
from .formats.registry import FORMATS as FORMATS
from .images.decoding import limit_pixels as limit_pixels
from .images.decoding import read_size_px as read_size_px
from .open import open_dataset as open_dataset
from .synthetic.scenes import write_scenes as write_scenes

__all__ = [
    "FORMATS",
    "AnnotationBuffer",
    "DatasetFormat",
    "DetectionDataset",
    "ImageTable",
    "SplitSource",
    "assemble",
    "convert_dataset",
    "evaluation_batches",
    "limit_pixels",
    "open_dataset",
    "read_size_px",
    "training_batches",
    "transforms",
    "write_scenes",
]
