"""Webhooks: events in order, signed, sent again where they were not taken, and never in the way of a training."""

import hashlib
import hmac
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from langevin.cli import main
from langevin.run.directory import open_run
from langevin.run.reporting import Reporting
from langevin.run.webhook import Webhooks, addresses
from tests import tiny


@contextmanager
def receiver(*statuses, stall=None):
    """A server that answers with the statuses in turn, the last one from then on; yields its address and what it got."""
    got, left = [], list(statuses or [200])

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((dict(self.headers), body))
            if stall is not None:
                stall.wait(20)
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook?token=s3cret", got
    finally:
        server.shutdown()
        server.server_close()


def events(got):
    return [json.loads(body) for _, body in got]


@pytest.fixture
def words(trained, tmp_path):
    data = open_run(trained).recipe.data.path
    return ["train", data, "--out", str(tmp_path / "run"), "training.steps=2", *tiny.SMALL]


def test_a_training_tells_its_story_and_keeps_the_address_to_itself(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LANGEVIN_WEBHOOK_SECRET", "shared")
    with receiver() as (url, got):
        monkeypatch.setenv("LANGEVIN_WEBHOOK", url)
        assert main(words) == 0
    story = [(event["type"], event.get("status") or event.get("stage", {}).get("key")) for event in events(got)]
    assert story[0] == ("training.status", "started")
    assert story[-1] == ("training.status", "completed")
    assert {("lifecycle.stage", "checkpoint_save"), ("evaluation", None)} <= set(story)
    assert all(event["run"] == "run" for event in events(got))
    assert all(event["figures"]["loss/val"] > 0 for event in events(got) if event["type"] == "evaluation")
    for headers, body in got:
        expected = hmac.new(b"shared", body, hashlib.sha256).hexdigest()
        assert headers["X-Langevin-Signature"] == f"sha256={expected}"
    kept = [p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()]
    assert not any(b"s3cret" in content or b"shared" in content for content in kept)
    said = capsys.readouterr()
    assert "s3cret" not in said.out + said.err


def test_a_training_that_fails_says_why(words, monkeypatch):
    from langevin.run import train

    def fail(*_, **__):
        raise ValueError("the network is gone\nand more")

    monkeypatch.setattr(train, "train_on", fail)
    with receiver() as (url, got):
        assert main([*words, "--webhook", url]) == 1
    assert [(e["status"], e.get("error")) for e in events(got)] == [
        ("started", None),
        ("failed", "the network is gone"),
    ]


def test_an_event_is_sent_again_until_it_is_taken(capsys):
    with receiver(503, 429, 200) as (url, got):
        hooks = Webhooks([url], name="run", pauses=(0.01, 0.01, 0.01))
        hooks.send("training.status", status="started")
        hooks.send("training.status", status="completed")
        hooks.close()
    assert [event["status"] for event in events(got)] == ["started", "started", "started", "completed"]


@pytest.mark.parametrize("status", [404, 302])
def test_what_is_refused_for_good_is_said_once_by_its_host_alone(status):
    said = list[str]()
    with receiver(status) as (url, got):
        hooks = Webhooks([url], name="run", say=said.append, pauses=(0.01,))
        for step in range(3):
            hooks.send("evaluation", step=step)
        hooks.close()
    assert len(got) == 3  # nothing is repeated, and no redirection followed
    assert said == [f"the webhook at 127.0.0.1 takes no events (it answered {status}): training goes on"]


def test_an_address_that_hangs_or_is_gone_holds_nothing_up():
    stall, said = threading.Event(), list[str]()
    with receiver(stall=stall) as (url, _):
        hooks = Webhooks([url, "http://127.0.0.1:9/"], name="run", say=said.append, pauses=(0.01,), timeout=0.2)
        for step in range(1000):  # more than can wait
            hooks.send("evaluation", step=step)
        hooks.close(wait=0.1)
        stall.set()
    assert sorted(line.split(" (")[0] for line in said) == ["the webhook at 127.0.0.1 takes no events"] * 2


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://x.org/a", "begins with https://"), ("hooks", "begins with https://"), ("https://a b/", "begins with https"),
        ("https://me:pw@x.org/a", "has a password in its address"), ("http://x.org/?t=s3cret", "is not https"),
        ("http://127.0.0.1.x.org/", "is not https"), ("https://x.org:port/", "begins with https://"),
    ],
)  # fmt: skip
def test_addresses_that_are_refused_before_any_work(words, tmp_path, capsys, url, said):
    assert main([*words, "--webhook", url]) == 1
    message = capsys.readouterr().err
    assert said in message
    assert "s3cret" not in message
    assert not (tmp_path / "run").exists()


def test_addresses_that_are_taken(monkeypatch):
    monkeypatch.setenv("LANGEVIN_WEBHOOK", "https://a.org/1 http://localhost:8/2")
    assert addresses(["https://a.org/1"]) == ("https://a.org/1", "http://localhost:8/2")
    assert addresses(["http://x.org/"], insecure=True)[0] == "http://x.org/"


def test_what_the_environment_says_goes_to_another_machine_and_is_not_printed(monkeypatch):
    monkeypatch.setenv("LANGEVIN_WEBHOOK", "https://hooks.example.org/hidden")
    monkeypatch.setenv("LANGEVIN_WEBHOOK_SECRET", "key")
    sent = Reporting().elsewhere()
    assert not any(word in repr(sent) for word in ("hidden", "key"))
    monkeypatch.delenv("LANGEVIN_WEBHOOK")
    monkeypatch.setenv("LANGEVIN_WEBHOOK_SECRET", "of another machine")
    assert sent.elsewhere() == sent
    assert Webhooks((), name="run", secret=sent.secret).secret == b"key"
    assert addresses(sent.webhook) == ("https://hooks.example.org/hidden",)
