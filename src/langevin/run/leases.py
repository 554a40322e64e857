"""Who makes which part of some work now, for processes that share a folder and nothing else.

A lease is a file that one process alone can create. Its holder renews its time while it works, so what is not renewed
belongs to a process that was killed or lost its machine, and may be taken over. Only exclusive creation, renaming and times
of files are needed, which file systems between machines have, where locks are often missing (NFS without its lock service,
objects mounted as folders). All times are those of the file system's own clock, and not of the machines.

A lease saves work and guards nothing: two holders of one shard, such as one that had been suspended and wakes up, write the
same bytes.
"""

import errno
import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from langevin.files import explain, temporary_of

SECONDS = 60.0  # after which a lease that is not renewed has ended


@dataclass(frozen=True, kw_only=True)
class Leases:
    """The leases in a folder.

    Args:
        seconds: how long one lasts that is not renewed.
    """

    folder: Path
    seconds: float = SECONDS
    owner: str = field(default_factory=lambda: secrets.token_hex(8))

    @contextmanager
    def held(self, name: str) -> Iterator[bool]:
        """Hold a lease, and renew it, as long as the block runs; yields False if another process holds it.

        Raises:
            OSError: the folder cannot be written."""
        path = self.folder / name
        if not self._take(path):
            yield False
            return
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(path, ended), daemon=True)
        renewing.start()
        try:
            yield True
        finally:
            ended.set()
            renewing.join()
            if self._holder(path).get("owner") == self.owner:
                path.unlink(missing_ok=True)

    def _take(self, path: Path) -> bool:
        for _ in range(2):  # again, after one that had ended was put away
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                if not self._put_away(path):
                    return False
                continue
            except OSError as error:
                raise explain(error, path) from error
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"owner": self.owner, "host": here(), "process": os.getpid()}, file)
            return True
        return False

    def _put_away(self, path: Path) -> bool:
        """Remove a lease that has ended; returns whether the name is free."""
        holder = self._holder(path)
        if not self._has_ended(path, holder):
            return False
        aside = temporary_of(path)
        try:
            os.rename(path, aside)  # of several processes, one can
        except FileNotFoundError:
            return True
        fresh = self._holder(aside).get("owner") != holder.get("owner")  # another process was faster, and holds it now
        if fresh:
            with suppress(OSError, NotImplementedError):  # a third was faster still, or a file system without links
                os.link(aside, path)
        aside.unlink(missing_ok=True)
        return not fresh

    def _has_ended(self, path: Path, holder: dict[str, object]) -> bool:
        if holder.get("host") == here() and _was_killed(holder.get("process")):
            return True
        try:
            return self._now() - path.stat().st_mtime > self.seconds
        except FileNotFoundError:
            return True

    def _now(self) -> float:
        """The time by the clock of the file system."""
        probe = temporary_of(self.folder / "time")
        try:
            probe.touch(exist_ok=False)
            return probe.stat().st_mtime
        except OSError as error:
            raise explain(error, probe) from error
        finally:
            probe.unlink(missing_ok=True)

    def _renew(self, path: Path, ended: threading.Event) -> None:
        while not ended.wait(self.seconds / 4):
            with suppress(OSError):  # it was taken over, or the folder is away for a moment
                os.utime(path)

    def _holder(self, path: Path) -> dict[str, object]:
        """What the holder wrote; nothing while it is being written, or where there is no lease."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else {}
        except (OSError, ValueError):
            return {}


@cache
def here() -> str:
    """Where numbers of processes are those of this process: its boot and its PID namespace, or the name of the machine
    where these are not known. Containers of one name have numbers of their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except (OSError, ValueError):
        return socket.gethostname()


def _was_killed(process: object) -> bool:
    """Whether there is no process of that number on this machine. On Windows nobody can ask."""
    if os.name == "nt" or not isinstance(process, int) or process <= 0:
        return False
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno == errno.ESRCH
    return False
