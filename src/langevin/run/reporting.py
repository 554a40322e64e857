"""Who is told of a run while it trains: trackers (`run/track.py`) and webhooks (`run/webhook.py`)."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from langevin.run.directory import Run
from langevin.run.stop import Stopped
from langevin.run.track import Trackers, figures, module_of
from langevin.run.webhook import Webhooks, addresses, secret_of


@dataclass(frozen=True, kw_only=True)
class Reporting:
    """The trackers and webhooks of a training.

    Args:
        track: names of trackers.
        webhook: addresses, which are secrets: no text of it shows them.
        webhook_insecure: whether they may be http on other machines.
        secret: that signs what is sent; None is the one of this process.
    """

    track: tuple[str, ...] = ()
    webhook: tuple[str, ...] = field(default=(), repr=False)
    webhook_insecure: bool = False
    secret: str | None = field(default=None, repr=False)

    def check(self) -> "Reporting":
        """Itself, after a check that all can be opened.

        Raises:
            ValueError: a tracker cannot be imported, or an address is none."""
        for name in self.track:
            module_of(name)
        addresses(self.webhook, insecure=self.webhook_insecure)
        return self

    def elsewhere(self) -> "Reporting":
        """Itself, with what the environment of this process says, for a process on another machine.

        Raises:
            ValueError: an address is none."""
        urls = addresses(self.webhook, insecure=self.webhook_insecure)
        return replace(self, webhook=urls, secret=secret_of(self.secret))


NOBODY = Reporting()


class Reporter:
    """Tells trackers and webhooks of a run that trains. No call of it raises. Webhooks are sent from a thread of their own,
    and a tracker takes the time that it takes."""

    def __init__(self, trackers: Trackers, webhooks: Webhooks) -> None:
        self.trackers, self.webhooks, self.step = trackers, webhooks, 0

    def record(self, line: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl was written."""
        self.step = int(line["step"])
        self.trackers.log(line)
        if "val_loss" in line:
            self.webhooks.send("evaluation", step=self.step, figures=figures(line))

    def preview(self, step: int, suffix: str, content: bytes) -> None:
        """A preview of samples was drawn."""
        if suffix in (".png", ".webp", ".jpg"):
            self.trackers.preview(step, content)

    def saved(self, step: int) -> None:
        """A checkpoint was written."""
        self.step = step
        self.webhooks.send("lifecycle.stage", stage={"key": "checkpoint_save", "status": "completed"}, step=step)


@contextmanager
def reporting(to: Reporting, run: Run, say: Callable[[str], None], *, first: bool) -> Iterator[Reporter]:
    """A context of a training, whose begin and end are told.

    Args:
        first: whether this process reports; of several one does."""
    urls = addresses(to.webhook, insecure=to.webhook_insecure) if first else ()
    reporter = Reporter(
        Trackers(to.track if first else (), run, say), Webhooks(urls, name=run.path.name, say=say, secret=to.secret)
    )
    send = reporter.webhooks.send
    send("training.status", status="started", step=run.last_step)
    try:
        yield reporter
    except BaseException as error:
        ended = "stopped" if isinstance(error, Stopped | KeyboardInterrupt) else "failed"
        why = str(error).partition("\n")[0] or type(error).__name__
        send("training.status", status=ended, step=reporter.step, error=why)
        raise
    else:
        send("training.status", status="completed", step=reporter.step)
    finally:
        reporter.trackers.close()
        reporter.webhooks.close()
