"""How long a process waits for what torchrun should have started."""

from datetime import timedelta

import pytest

from setmatch import distributed
from setmatch.errors import TrainingError

BY_AGENT = {"TORCHELASTIC_RUN_ID": "none"}
BY_AGENT_WITH_STORE = {**BY_AGENT, "TORCHELASTIC_USE_AGENT_STORE": "True"}
SLOW = timedelta(minutes=5)  # a process that imports torch on a busy machine takes long to come


@pytest.mark.parametrize(
    ("variables", "longest"),
    [
        ({}, timedelta(seconds=30)),
        (BY_AGENT, SLOW),
        ({**BY_AGENT, "TORCHELASTIC_USE_AGENT_STORE": "False"}, SLOW),
        (BY_AGENT_WITH_STORE, timedelta(seconds=30)),
    ],
)
def test_a_process_soon_notices_that_its_torchrun_has_ended(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], longest: timedelta
):
    """The store of an agent is there before the processes are; any other may come late."""
    for name in BY_AGENT_WITH_STORE:
        monkeypatch.delenv(name, raising=False)
    for name, value in {**variables, "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    waited: list[timedelta] = []

    def refused(url: str, timeout: timedelta) -> None:
        waited.append(timeout)
        raise RuntimeError("connection refused")

    monkeypatch.setattr(distributed, "rendezvous", refused)
    refusal = pytest.raises(TrainingError, match=r"connection refused.*torchrun")
    with refusal, distributed.init_distributed("cpu"):
        pass
    (seconds,) = waited
    assert longest / 2 < seconds <= longest
