"""Of crossed parameters, few combinations run each time, but every value does."""

from itertools import product

import pytest

from thorough import stays


@pytest.mark.parametrize("counts", [(1, 5), (4, 6), (2, 16), (3, 3, 6), (7, 10, 2)])
def test_every_value_stays_in_as_few_combinations_as_possible(counts: tuple[int, ...]):
    all_places = product(*map(range, counts))
    kept = [places for places in all_places if stays(list(zip(places, counts, strict=True)))]
    assert len(kept) == max(counts)
    for values, count in zip(zip(*kept, strict=True), counts, strict=True):
        assert set(values) == set(range(count))


@pytest.mark.crossed
@pytest.mark.parametrize(("a", "b"), [(1, 2), (3, 4)])
@pytest.mark.parametrize("c", [5, pytest.param(6), 7])
def test_a_crossed_test_runs_the_diagonal(a: int, b: int, c: int, request: pytest.FixtureRequest):
    is_diagonal = (a, b, c) in {(1, 2, 5), (3, 4, 6), (1, 2, 7)}
    assert is_diagonal == (request.node.get_closest_marker("thorough") is None)
