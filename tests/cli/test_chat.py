"""A dialogue with a run: the replies of a pipe are those of `sample`, commands change them, a terminal ends well."""

import io
import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from langevin.modalities.text.data import TextSource, load_parts
from langevin.modalities.text.input import as_dialogue
from langevin.modalities.text.pairs import replies, speakers
from langevin.run.directory import open_run
from tests import texts, tiny

SMALL = ("data.codec.size=300", "data.task.context_length=96", "data.task.max_target_length=12",
         "data.task.joint_fraction=0.3", "training.precision=float32")  # fmt: skip
FAST = ("--steps", 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("talks")


@pytest.fixture(scope="module")
def talk(folder):
    return tiny.run_of(texts.dialogues(folder / "dialogues"), folder / "talk", *SMALL)


@pytest.fixture(scope="module")
def shop(folder):
    """A run whose data names the speakers otherwise, and whose sources are one turn."""
    data = texts.dialogues(folder / "shop")
    path = data / "turns.jsonl"
    path.write_text(path.read_text().replace('"user"', '"customer"').replace('"system"', '"clerk 1"'))
    return tiny.run_of(data, folder / "shop-run", *SMALL, "data.task.turns=1")


@pytest.fixture
def said(told, monkeypatch):
    """The lines of a chat through a pipe: (status, replies, standard error)."""

    def chat(run, *lines, options=()):
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        status, out, err = told("chat", run, *FAST, *options)
        return status, out.splitlines(), err

    return chat


@pytest.fixture
def sampled(told):
    """The reply of `sample` to turns, each beginning with its speaker."""

    def reply(run, *turns, seed, options=()):
        status, out, err = told(
            "sample", run, "--prompt", "\n".join(turns), "--count", 1, "--seed", seed, *FAST, *options
        )
        assert status == 0, err
        return " ".join(out.split())

    return reply


@pytest.mark.parametrize("options", [(), ("--best-of", 3, "--reverse-weight", 0.5), ("--temperature", 0.5)])
def test_a_chat_is_a_sample_for_each_turn(talk, said, sampled, options):
    status, found, err = said(talk, "what do you see?", "", "  and   now? ", options=("--seed", 7, *options))
    assert status == 0, err
    first = sampled(talk, "user: what do you see?", seed=7, options=options)
    second = sampled(
        talk, "user: what do you see?", f"system: {first}", "user: and now?", seed=8, options=options
    )  # fmt: skip
    assert found == [first, second]
    assert said(talk, "what do you see?", "and now?", options=("--seed", 7, *options))[1] == found


def test_commands_change_the_turns_and_the_seed(talk, said, sampled):
    """Seeds go on after what is taken back, so that another reply is drawn, until one is named."""
    _, (first, second, other, again, named), _ = said(
        talk, "one", "two", "/undo", "two", "/reset", "one", "/seed 0", "/undo", "one", "/quit", "never"
    )
    assert (first, named) == (sampled(talk, "user: one", seed=0),) * 2
    history = "user: one", f"system: {first}", "user: two"
    assert (second, other) == (sampled(talk, *history, seed=1), sampled(talk, *history, seed=2))
    assert again == sampled(talk, "user: one", seed=3)
    assert said(talk, "//undo")[1] == [sampled(talk, "user: /undo", seed=0)]
    assert "/undo        take back" in said(talk, "/help")[2]


def test_the_history_is_as_long_as_a_source_in_training_and_has_its_names(shop, said, sampled):
    assert open_run(shop).recipe.data.speakers == ("customer", "clerk 1")
    _, found, _ = said(shop, "one", "two", "/reset", "/seed 1", "two")
    assert found[1] == found[2]  # of data.task.turns=1 the source is the last turn alone
    assert found[2] == sampled(shop, "customer: two", seed=1) == sampled(shop, "user: two\nsystem:", seed=1)


@pytest.mark.parametrize("kind", ["talk", "shop"])
def test_what_is_saved_is_a_dialogue_of_the_same_form(kind, said, request, tmp_path, told):
    run = request.getfixturevalue(kind)
    names = open_run(run).recipe.data.speakers
    lines = [f"/save {tmp_path / 'one.jsonl'}", "/reset", "what else?", f"/save {tmp_path / 'two.jsonl'}"]
    status, found, err = said(run, "what do you see?", "and now?", *lines)
    assert (status, len(found)) == (0, 3), err
    assert "4 turns" in err
    record = json.loads((tmp_path / "one.jsonl").read_text())
    assert [who for who, _ in record["turns"]] == [*names, *names]
    assert [text for _, text in record["turns"]] == ["what do you see?", found[0], "and now?", found[1]]
    train, val = load_parts(TextSource(path=str(tmp_path)))
    assert train.form == "dialogue"
    assert speakers(train.records) == speakers(val.records) == names
    assert found[2] in [reply.reply for part in (train, val) for reply in replies(part.records)]


@pytest.mark.parametrize(("line", "message"), [
    ("/foo", "there is no command /foo: /help shows those that there are"),
    ("/", "there is no command /"),
    ("/undo", "nothing was said yet"),
    ("/undo the spell", "/undo takes nothing after it: a message that begins with / is written with //"),
    ("/seed", "takes a whole number, got ''"),
    ("/seed 99999999999999999999", "must fit into 62 bits"),
    ("/save talk.txt", "name a file that ends in .jsonl"),
    ("/save nothing.jsonl", "/save: nothing was said yet"),
])  # fmt: skip
def test_a_command_that_cannot_be_done_ends_a_pipe(talk, said, line, message):
    status, found, err = said(talk, line, "what do you see?")
    assert (status, found) == (1, [])
    assert message in err
    assert "Traceback" not in err


def test_no_file_is_replaced(talk, said, tmp_path):
    mine = tmp_path / "mine.jsonl"
    mine.write_text("mine")
    status, found, err = said(talk, "one", f"/save {mine}", "two")
    assert (status, len(found)) == (1, 1)
    assert "which is kept as it is: choose another name" in err
    assert mine.read_text() == "mine"
    status, _, err = said(talk, "one", f"/save {tmp_path / 'no' / 'a.jsonl'}")
    assert status == 1
    assert "a.jsonl: No such file or directory" in err


def test_a_pipe_that_is_no_text_is_refused(talk, told, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), encoding="utf-8"))
    status, out, err = told("chat", talk)
    assert (status, out) == (1, "")
    assert "standard input is not utf-8 text" in err


def test_a_weight_that_has_no_effect_is_refused_before_anything_is_said(talk, shop, told):
    for options, message in (
        (("--reverse-weight", 1), "give --best-of 2 or more"),
        (("--reverse-weight", -1, "--best-of", 2), "at least 0 and finite"),
        (("--best-of", 0), "1 to 1000, got 0"),
    ):
        status, out, err = told("chat", talk, *options)
        assert (status, out) == (1, "")
        assert message in err


@pytest.mark.parametrize(("keys", "status"), [(b"\x04", 0), (b"\x03", 0), (b"/quit\n", 0)])
def test_a_terminal_has_a_prompt_and_ends_cleanly(talk, said, keys, status):
    """What is typed wrong is told, and the chat goes on."""
    expected = said(talk, "what do you see?")[1][0]
    main, child = pty.openpty()
    code = "from langevin.cli import entry; entry()"
    command = [sys.executable, "-c", code, "chat", str(talk), *map(str, FAST)]
    process = subprocess.Popen(
        command, stdin=child, stdout=child, stderr=child, close_fds=True, start_new_session=True,
        preexec_fn=lambda: (
            signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell's jobs in the background ignore
            os.close(os.open(os.ttyname(0), os.O_RDWR)),
        ),
    )  # fmt: skip
    os.close(child)
    shown = b""

    def until(text):
        nonlocal shown
        while text not in shown:
            shown += os.read(main, 4096)

    until(b"> ")
    os.write(main, b"/foo\n")
    until(b"there is no command /foo")
    os.write(main, b"what do you see?\n")
    until(f"{expected}\r\n> ".encode())
    os.write(main, keys)
    assert process.wait(60) == status
    os.close(main)
    assert b"Traceback" not in shown


@pytest.mark.parametrize(("given", "kept"), [
    ("user: a\nsystem: b\nuser: c", "system: b\nuser: c\nsystem:"), ("user: a:", "user: a:\nsystem:"),
    ("user: a\nsystem: b\nuser: c\nsystem:", "system: b\nuser: c\nsystem:"), ("user:", "user:"), ("", ""),
])  # fmt: skip
def test_the_last_turns_are_kept(given, kept):
    assert as_dialogue(given, last=2) == kept
