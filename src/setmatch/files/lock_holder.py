"""Who holds a lock on a folder, and whether that process still runs."""

import json
import os
import socket
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from setmatch.files.reading import read_text

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = "/proc/self/ns/pid"


@dataclass(frozen=True)
class Holder:
    """A process that writes a folder.

    Process ids are used again, so `started` distinguishes a process from a later one with its id.
    Ids mean something on one `machine` only: one boot of a host, and one container on it.
    """

    pid: int
    host: str
    machine: str
    started: str  # "" where the system does not say
    since: str  # local time, for people

    @classmethod
    def this_process(cls) -> "Holder":
        """Return this process as the holder of a lock from now on."""
        since = time.strftime("%Y-%m-%d %H:%M")
        return cls(os.getpid(), socket.gethostname(), _machine(), _started(os.getpid()), since)

    @classmethod
    def parse(cls, text: str) -> "Holder | None":
        """Read what `dump` wrote; None for anything else, such as half of it."""
        try:
            holder = cls(**json.loads(text))
        except (ValueError, TypeError):
            return None
        well_typed = all(type(getattr(holder, each.name)) is each.type for each in fields(cls))
        return holder if well_typed and 0 < holder.pid < 2**31 else None

    def dump(self) -> str:
        """Return the text of a lock file."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def is_here(self) -> bool:
        """Return whether the process ran on this machine, so that its id means something."""
        return (self.host, self.machine) == (socket.gethostname(), _machine())

    def runs(self) -> bool | None:
        """Return whether the process still runs; None if it is not known here."""
        if not self.is_here():
            return None
        return process_runs(self.pid, self.started)

    def how_to_stop(self) -> str:
        """Return a command that lets the process end."""
        return f"kill {self.pid}" if self.is_here() else f"kill {self.pid} on {self.host}"

    def __str__(self) -> str:
        itself = self.is_here() and self.pid == os.getpid()
        process = f"this process ({self.pid})" if itself else f"process {self.pid}"
        return f"{process} on {self.host}, since {self.since}"


def process_runs(pid: int, started: str) -> bool | None:
    """Return whether a process of this machine still runs; None if the system does not say.

    `started` distinguishes it from a later one with its id, where it is not "".
    """
    if started:
        return _started(pid) == started
    if os.name != "posix":  # where os.kill would end the process
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return None  # it may be another process with the same id


def _machine() -> str:
    try:
        return f"{read_text(_BOOT).strip()} {os.readlink(_NAMESPACE)}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return when a process started, in the clock ticks of its machine; "" if it does not run."""
    try:
        # The second field, the name of the program, may hold blanks and parentheses.
        after_name = read_text(f"/proc/{pid}/stat", errors="replace").rpartition(")")[2]
    except OSError:
        return ""
    state, *others = after_name.split()
    return "" if state in "ZX" else others[18]
