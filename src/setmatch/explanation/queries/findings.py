"""What stands out in the use of object queries, and what it means."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from setmatch.explanation.queries.statistics import QueryStatistics, QueryUsage
from setmatch.explanation.shown_scores import in_words

_MANY_UNUSED = 0.5  # of all queries
_NEARLY_ALL = 0.8  # of the queries, in the fullest image
_SPARE = 1.5  # queries per detection of the fullest image, as in `num_queries: auto`
_MAX_NAMED = 8  # queries in a sentence


@dataclass(frozen=True)
class QueryFinding:
    """A sentence about the queries, and what it means."""

    fact: str
    meaning: str


def query_findings(statistics: QueryStatistics) -> list[QueryFinding]:
    """Return what stands out, the most general first."""
    uses = statistics.uses
    if not any(use.detections for use in uses):
        fact = f"No query scores above {in_words(statistics.threshold)} in any image."
        meaning = (
            "The model has not learned to detect anything here, or the threshold is too high: try "
            "--threshold 0.1, and predict a few images."
        )
        return [QueryFinding(fact, meaning)]
    return [
        _kind(statistics),
        _unused(statistics, uses),
        _fullest(statistics),
        *_specialists(uses),
    ]


def _kind(statistics: QueryStatistics) -> QueryFinding:
    if statistics.ranked:
        return QueryFinding(
            "Each image chooses its queries anew, the most promising place first.",
            "The number of a query is its rank in an image, not a role. Low numbers detect most, "
            "and a query that keeps to a class or a size shows which objects are easiest to find.",
        )
    return QueryFinding(
        "The queries are learned, and the same in every image.",
        "Each can have a role. Usually they share out the image among them, by place and size of "
        "the objects.",
    )


def _unused(statistics: QueryStatistics, uses: list[QueryUsage]) -> QueryFinding:
    unused = sum(not use.detections for use in uses)
    if not unused:
        return QueryFinding("Every query detects something.", "None of them is superfluous.")
    fact = f"{unused} of {len(uses)} queries never detect anything in these images."
    if unused < _MANY_UNUSED * len(uses):
        return QueryFinding(fact, "Spare queries are normal: most images hold fewer objects.")
    enough = max(math.ceil(_SPARE * _per_image(statistics)[1]), 1)
    meaning = (
        f"The model has more queries than these images need: {enough} would do (--set "
        f"model.num_queries={enough}), and cost less time."
    )
    if not statistics.ranked:
        meaning += " After a short training, it can also mean that few queries have learned yet."
    return QueryFinding(fact, meaning)


def _fullest(statistics: QueryStatistics) -> QueryFinding:
    queries = statistics.score.shape[1]
    mean, most = _per_image(statistics)
    fact = f"{mean:.1f} of {queries} queries detect in an image on average, at most {most}."
    if most >= _NEARLY_ALL * queries:
        return QueryFinding(
            fact,
            "In the fullest images the queries run out, and further objects are missed. Train with "
            f"more (--set model.num_queries={math.ceil(_SPARE * most)}).",
        )
    return QueryFinding(fact, "There are enough queries for the fullest image.")


def _per_image(statistics: QueryStatistics) -> tuple[float, int]:
    """Return how many queries detect in an image: the mean, and the maximum."""
    counts = statistics.detects.sum(axis=1)
    return float(counts.mean()), int(counts.max())


def _specialists(uses: list[QueryUsage]) -> Iterator[QueryFinding]:
    meanings = {
        "class": "At least 80% of their detections are of one class.",
        "place": "Their detections lie closer together than those of all queries: they watch one "
        "part of the image.",
        "size": "Their detections vary less in size than those of all queries.",
    }
    special = {what: [use for use in uses if what in use.specializes] for what in meanings}
    if not any(special.values()):
        yield QueryFinding(
            "No query specializes.",
            "None keeps to a class, a place or a size; with few images this is not certain.",
        )
    for what, meaning in meanings.items():
        chosen = special[what]
        if chosen:
            numbers = ", ".join(_numbered(use, what) for use in chosen[:_MAX_NAMED])
            more = f" and {len(chosen) - _MAX_NAMED} more" if len(chosen) > _MAX_NAMED else ""
            subject, which = (
                ("1 query keeps", "query")
                if len(chosen) == 1
                else (f"{len(chosen)} queries keep", "queries")
            )
            yield QueryFinding(f"{subject} to one {what}: {which} {numbers}{more}.", meaning)


def _numbered(use: QueryUsage, what: str) -> str:
    if what == "class":
        return f"{use.query} ({next(iter(use.classes))})"
    return str(use.query)
