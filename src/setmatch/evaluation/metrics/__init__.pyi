from .coco import AveragePrecision as AveragePrecision
from .coco import Results as Results
from .coco import average_precision as average_precision
from .diagnosis import Diagnosis as Diagnosis
from .diagnosis import diagnose as diagnose
from .matched_detections import MatchedDetections as MatchedDetections
from .matched_detections import match_detections as match_detections
from .panoptic import PanopticQuality as PanopticQuality
from .panoptic import PQStat as PQStat
from .panoptic import panoptic_quality as panoptic_quality
from .panoptic import pq_stat as pq_stat

__all__ = [
    "AveragePrecision",
    "Diagnosis",
    "MatchedDetections",
    "PQStat",
    "PanopticQuality",
    "Results",
    "average_precision",
    "diagnose",
    "match_detections",
    "panoptic_quality",
    "pq_stat",
]
