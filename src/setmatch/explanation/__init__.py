"""What a model does inside: what answers and places looked at, and what its query slots are for."""

from setmatch.explanation.explain import Explanation as Explanation
from setmatch.explanation.explain import explain as explain
from setmatch.explanation.query_usage import QueryStudy as QueryStudy
from setmatch.explanation.query_usage import study_queries as study_queries
