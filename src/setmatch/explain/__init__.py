"""What a model does inside: what answers and places looked at, and what its query slots are for."""

from setmatch.explain.explanation import Explanation as Explanation
from setmatch.explain.explanation import explain as explain
from setmatch.explain.slots import QueryStudy as QueryStudy
from setmatch.explain.slots import study_queries as study_queries
