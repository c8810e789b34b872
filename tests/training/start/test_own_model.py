"""A model or criterion of the user's own."""

import inspect
from pathlib import Path

import pytest

from setmatch.config import LossWeights, MatchCosts
from setmatch.errors import ConfigError
from setmatch.losses.classification import Softmax
from setmatch.training.start.own_model import OwnModel, build_criterion


@pytest.mark.parametrize("criterion", ["l1", 5.0, {"l1": 1.0}])
def test_a_criterion_that_cannot_be_called_is_refused(criterion):
    """The message has its type, and what is expected."""
    with pytest.raises(ConfigError, match=f"{type(criterion).__name__}: expected a loss"):
        # Without the type checks of the tests, which users do not have.
        inspect.unwrap(build_criterion)(criterion, Softmax(), MatchCosts(), LossWeights())


@pytest.mark.parametrize("model", [5, Path("runs/first"), object()])
def test_a_model_that_is_neither_a_detector_nor_a_factory_is_refused(model):
    """As the engine of an exported file is: the message has its type, and what to give."""
    with pytest.raises(ConfigError, match=f"Detector to train, got {type(model).__name__}; load"):
        inspect.unwrap(OwnModel)(model)
