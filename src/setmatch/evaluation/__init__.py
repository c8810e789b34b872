"""How good a model is: the COCO numbers, overall and by class, and what is behind them."""

from setmatch.evaluation.evaluate import evaluate as evaluate
from setmatch.evaluation.evaluate_results import evaluate_saved as evaluate_saved
from setmatch.evaluation.results import Report as Report
