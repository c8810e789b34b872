"""How good a model is: the COCO numbers, overall and by class, and what is behind them."""

from setmatch.evaluate.measure import evaluate as evaluate
from setmatch.evaluate.report import Report as Report
from setmatch.evaluate.saved import evaluate_saved as evaluate_saved
