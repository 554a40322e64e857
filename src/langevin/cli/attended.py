"""The command line as a process of a server, `python -m langevin.cli.attended VERB ...`: it stops, like after Ctrl-C, when
its standard input ends, that is when the server has gone, however that happened."""

import os
import signal
import sys
import threading

from langevin.cli import entry


def watch() -> None:
    """Wait for the end of standard input."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=watch, daemon=True).start()
    sys.exit(entry())
