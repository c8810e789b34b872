"""How good a model is: the COCO numbers, overall and by class."""

from setmatch.evaluate.measure import evaluate as evaluate
from setmatch.evaluate.report import Report as Report
