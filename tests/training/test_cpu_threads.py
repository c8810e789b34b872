"""How many threads are taken: as many as help, by the clock and not by the number of cores."""

import time

import pytest
import torch

from setmatch.training.cpu_threads import fastest_num_threads, keep_num_threads


def costs(seconds: dict[int, float]):
    """Return work that takes so long with so many threads."""
    return lambda: time.sleep(seconds[torch.get_num_threads()])


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({1: 0.04, 2: 0.02, 4: 0.01, 6: 0.005}, 6),
        ({1: 0.04, 2: 0.02, 4: 0.06, 6: 0.005}, 2),
        ({1: 0.01, 2: 0.05}, 1),
        ({1: 0.040, 2: 0.042}, 2),
    ],
)
def test_more_threads_are_taken_as_long_as_they_help(seconds: dict[int, float], chosen: int):
    """Doubling stops where it costs clearly more; a small difference is no reason to stop."""
    before = torch.get_num_threads()
    assert fastest_num_threads(max(seconds), costs(seconds)) == chosen
    assert torch.get_num_threads() == before


def test_one_thread_is_never_exceeded():
    """What OMP_NUM_THREADS allows is the limit; the real work ends too."""
    assert fastest_num_threads(1) == 1


def test_torch_gets_its_threads_back():
    """Also when training ends with an error."""
    before = torch.get_num_threads()

    def fail():
        with keep_num_threads():
            torch.set_num_threads(before + 1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.get_num_threads() == before
