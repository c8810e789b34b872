from . import data as data
from . import losses as losses
from . import models as models
from .bulk.predictor import Predictor as Predictor
from .deploy.export import export as export
from .deploy.load import load as load
from .errors import SetmatchError as SetmatchError
from .evaluation import metrics as metrics
from .evaluation.evaluate import evaluate as evaluate
from .explanation.explain import explain as explain
from .inference import engines as engines
from .inference.predict import predict as predict
from .inference.video.predict_video import predict_video as predict_video
from .models import layers as layers
from .models.load import save as save
from .recipe_text import load_recipe as load_recipe
from .sharing.push import push as push
from .structures.batch import Batch as Batch
from .structures.batch import Target as Target
from .structures.detections import Detections as Detections
from .structures.metadata import Categories as Categories
from .structures.outputs import PredictionGroup as PredictionGroup
from .structures.outputs import Predictions as Predictions
from .training.train import train as train

__version__: str

__all__ = [
    "Batch",
    "Categories",
    "Detections",
    "PredictionGroup",
    "Predictions",
    "Predictor",
    "SetmatchError",
    "Target",
    "__version__",
    "data",
    "engines",
    "evaluate",
    "explain",
    "export",
    "layers",
    "load",
    "load_recipe",
    "losses",
    "metrics",
    "models",
    "predict",
    "predict_video",
    "push",
    "save",
    "train",
]
