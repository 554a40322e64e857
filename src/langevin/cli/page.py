"""The page of a run beside its training: a server as a process of its own, so that neither waits for the other."""

import subprocess
import sys
import tempfile
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from langevin.cli.serve import listening, require_packages
from langevin.run.supervised import environment

PORT = 8000  # or a free one, if it is taken


@dataclass(eq=False, kw_only=True)
class Page:
    """Serves a run from `show` to the end of its context, or until Ctrl-C."""

    say: Callable[[str], None]
    _server: subprocess.Popen[bytes] | None = None
    _log: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    _folder: Any = field(default_factory=lambda: tempfile.TemporaryDirectory(prefix="langevin-page-"))

    def __enter__(self) -> "Page":
        require_packages()
        return self

    def show(self, run: Path) -> None:
        """Start to serve the folder of a run, and show the run in the browser, if there is somebody to look."""
        try:
            bound = listening("127.0.0.1", PORT)
        except ValueError:
            bound = listening("127.0.0.1", 0)
        port = bound.getsockname()[1]
        bound.close()
        database = f"sqlite:///{Path(self._folder.name) / 'jobs.db'}"  # of its own: it takes up no jobs of others
        words = ["serve", str(run.absolute().parent), f"--port={port}", f"--database={database}"]
        self._server = subprocess.Popen(
            [sys.executable, "-m", "langevin.cli.attended", *words], stdin=subprocess.PIPE, stdout=self._log,
            stderr=self._log, env=environment(), start_new_session=True,  # Ctrl-C is for this process, which ends it
        )  # fmt: skip
        address = f"http://127.0.0.1:{port}/#/runs/{quote(run.name)}"
        self.say(f"page: {address}")
        if sys.stderr.isatty():
            with suppress(webbrowser.Error):
                webbrowser.open(address)

    def wait(self) -> None:
        """Go on serving until Ctrl-C."""
        if self._server is None:  # of several processes the first has the page
            return
        if self._server.poll() is None:
            self.say("the page stays; Ctrl-C ends it")
            with suppress(KeyboardInterrupt):
                self._server.wait()
        elif self._server.returncode:
            self._log.seek(0)
            last = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
            self.say(f"the page has ended: {''.join(last)}")

    def __exit__(self, *_: Any) -> None:
        if self._server is not None:
            self._server.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(30)
            self._server.kill()
        self._log.close()
        self._folder.cleanup()
