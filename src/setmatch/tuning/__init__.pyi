from .results import Search as Search
from .search import tune as tune
from .space import Choice as Choice
from .space import Range as Range
from .trial import Trial as Trial

__all__ = [
    "Choice",
    "Range",
    "Search",
    "Trial",
    "tune",
]
