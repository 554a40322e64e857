"""Options of other trainers: each has its place here or is refused, and the page's table is the code's."""

import re
import shlex
from pathlib import Path

import pytest

from langevin.cli import hub_names, main
from langevin.cli.aliases import ALIASES, translated
from langevin.cli.parse import parse
from langevin.run.directory import open_run
from tests import tiny

PAGE = Path(__file__).parents[2] / "docs" / "hub.md"


@pytest.mark.parametrize("alias", ALIASES, ids=lambda alias: alias.names[0])
def test_every_alias_is_taken_or_says_what_to_do(alias):
    for name in alias.names:
        value = next(iter(alias.values), "3")
        for option in (f"--{name}", f"--{name.replace('_', '-')}"):
            words = ["train", "photos", option, *([value] if alias.takes else [])]
            words += ["--hub_model_id", "a/b"] if name == "push_to_hub" else []
            words += ["--train_batch_size", "4"] if name == "gradient_accumulation_steps" else []
            if alias.form is None:
                with pytest.raises(ValueError, match="is of other trainers"):
                    translated(words)
                continue
            own, lines = translated(words)
            assert not any(word.startswith(option) for word in own)
            assert len(lines) >= 1
            if alias.form != "{}":
                parse(own)


def test_a_command_of_another_trainer_trains_the_same_run(trained, tmp_path, capsys):
    data = open_run(trained).recipe.data.path
    theirs = shlex.split(
        f"train --train_data_dir {data} --max-train-steps=2 --train_batch_size 4 --gradient_accumulation_steps 2 --seed 3 "
        f"--mixed_precision no --report_to none --output_dir {tmp_path / 'a'}"
    )
    ours = ["train", data, "training.steps=2", "training.batch=8", "training.micro_batch=4", "training.precision=float32",
            "--out", str(tmp_path / "b"), "--seed", "3"]  # fmt: skip
    small = [word for word in tiny.SMALL if "training.batch" not in word]
    assert main([*theirs, *small]) == 0
    said = capsys.readouterr().err
    assert "--max-train-steps 2 is training.steps=2 here" in said
    assert main([*ours, *small]) == 0
    first, second = ((tmp_path / name / "recipe.yaml").read_text() for name in "ab")
    assert first == second


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--push_to_hub", "needs a repository"),
        ("--mixed_precision fp16", "fp16 is not trained in"),
        ("--gradient_accumulation_steps 4", "give training.batch"),
        ("--train_batch_size many", "are whole numbers"),
        ("--max_train_steps", "needs a value"),
        ("--learning_rate --seed 1", "--learning_rate needs a value"),
        ("--random_flip=perhaps", "is true or false"),
        ("--hub_token hf_x", "set HF_TOKEN"),
        ("--resume_from_checkpoint latest", "`langevin resume RUN`"),
    ],
)
def test_what_cannot_be_taken(capsys, words, said):
    assert main(["train", "photos", *words.split()]) == 1
    assert said in capsys.readouterr().err


def test_a_flag_that_is_off_is_left_out():
    assert translated(["train", "photos", "--random_flip=false"]) == (
        ["train", "photos"], ["--random_flip=false is left out here"],
    )  # fmt: skip
    assert translated(["train", "photos", "--random_flip=true"])[0][-1] == "data.flip=true"


def test_only_arguments_and_init_from_are_names_of_the_hub(monkeypatch):
    monkeypatch.setattr(hub_names, "pulled", lambda name, **_: f"runs/{name[-1]}")
    words = ["x", "--allow-code", "hub:o/a", "--condition", "hub:o/b", "init_from=hub:o/c", "--condition=hub:o/d"]
    expected = ["x", "--allow-code", "runs/a", "--condition", "hub:o/b", "init_from=runs/c", "--condition=hub:o/d"]
    assert hub_names.at_hand(words) == expected


def test_the_table_of_the_page_is_the_code():
    rows = re.findall(r"^\| (`--.*?) \| (.*?) \|$", PAGE.read_text(), re.M)
    expected = [(", ".join(f"`--{name}`" for name in alias.names), cell(alias)) for alias in ALIASES]
    assert rows == expected


def cell(alias):
    """What the page says of an option."""
    form = f"`{alias.form.replace('{}', 'VALUE')}`" if alias.form else "left out" if alias.form == "" else "refused"
    return f"{form}: {alias.says}".replace("|", "/") if alias.says else form
