from .predict_parquet import ParquetSummary as ParquetSummary
from .predict_parquet import predict_parquet as predict_parquet
from .predictor import Predictor as Predictor
from .rows import COLUMNS as COLUMNS
from .rows import SPARK_SCHEMA as SPARK_SCHEMA
from .rows import empty_frame as empty_frame

__all__ = [
    "COLUMNS",
    "SPARK_SCHEMA",
    "ParquetSummary",
    "Predictor",
    "empty_frame",
    "predict_parquet",
]
