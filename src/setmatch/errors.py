"""What can go wrong for a user: every such error says what, where and what to do, in one line."""


class SetmatchError(Exception):
    """A mistake that the user can mend; the command line prints it in one line and exits with 2."""

    exit_code = 2


class ConfigError(SetmatchError):
    """A recipe, option or model name that does not exist or does not fit."""


class DataError(SetmatchError):
    """A data set, annotation or image that cannot be read or cannot be trained on."""


class WeightsError(SetmatchError):
    """Weights that are missing, damaged, or do not fit the model they are loaded into."""


class TrainingError(SetmatchError):
    """A run that cannot go on: nothing finite to learn from, or no good checkpoint to resume."""


class ExtraMissingError(SetmatchError):
    """An optional library that is not installed; the message names the extra that brings it."""
