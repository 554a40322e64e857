"""The command line as a process of a server, `python -m langevin.cli.attended VERB ...`: it stops, like after Ctrl-C, when
its standard input ends, that is when the server has gone, however that happened."""

import os
import signal
import sys
import threading

from langevin.cli import entry
from langevin.files import WINDOWS


def watch() -> None:
    """Wait for the end of standard input."""
    while os.read(0, 1024):
        pass
    interrupt()


def interrupt() -> None:
    """Signal SIGTERM to this process. Windows would end it at once if it were sent, so there it is raised."""
    if WINDOWS:
        signal.raise_signal(signal.SIGTERM)
    else:
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=watch, daemon=True).start()
    sys.exit(entry())
