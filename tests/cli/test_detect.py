"""`langevin sample --watermark` and `langevin detect`: found with the key, in the content alone, and not otherwise."""

import json

import pytest
from PIL import Image

from langevin.cli import main
from tests import texts, tiny


@pytest.fixture
def key(tmp_path):
    (tmp_path / "key").write_text("a secret of more than thirty-two letters\n")
    (tmp_path / "other").write_text("another secret of thirty-two letters or so\n")
    return tmp_path / "key"


def detected(capsys, *words):
    capsys.readouterr()
    assert main(["detect", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def stripped(folder, out, **options):
    """The images of a folder, written anew without what their files say."""
    out.mkdir()
    for path in sorted(folder.iterdir()):
        Image.open(path).convert("RGB").save(out / path.with_suffix(options.pop("suffix", ".png")).name, **options)
    return sorted(out.iterdir())


def test_images_are_found_by_the_key_alone(trained, key, tmp_path, capsys):
    for name, words in (("marked", ("--watermark", str(key))), ("plain", ())):
        assert main(["sample", str(trained), "--seed", "40", "--count", "4", "--steps", "20", "--out",
                     str(tmp_path / name), *words]) == 0  # fmt: skip
    marked, plain = (stripped(tmp_path / name, tmp_path / f"{name}-stripped") for name in ("marked", "plain"))
    found = detected(capsys, trained, *marked, "--watermark", key, "--seeds", 0, 99)
    assert [one["seed"] for one in found] == [40, 41, 42, 43]
    assert max(one["log10_p"] for one in found) < -6
    assert {one["tried"] for one in found} == {200}  # at two levels of noise
    for files, other in ((marked, tmp_path / "other"), (plain, key)):
        assert min(one["log10_p"] for one in detected(capsys, trained, *files, "--watermark", other)) > -4
    said = detected(capsys, trained, min((tmp_path / "marked").iterdir()), "--watermark", key, "--seeds", 0, 0)
    assert (said[0]["seed"], said[0]["tried"]) == (40, 4)  # the file itself names its seed
    assert main(["detect", str(trained), str(plain[0]), "--watermark", str(key)]) == 0
    assert "no watermark found" in capsys.readouterr().out


def test_the_same_key_and_seed_give_the_same_samples_in_any_batch(trained, key, tmp_path):
    for name, words in (
        ("a", ["--watermark", str(key)]), ("b", ["--watermark", str(key), "--batch", "2"]), ("c", []),
    ):  # fmt: skip
        assert main(["sample", str(trained), "--count", "3", "--out", str(tmp_path / name), *words]) == 0
    pixels = {
        name: [Image.open(path).tobytes() for path in sorted((tmp_path / name).iterdir())] for name in ("a", "b", "c")
    }
    assert pixels["a"] == pixels["b"]
    assert not set(pixels["a"]) & set(pixels["c"])


def test_texts_are_found_by_the_numbers_that_drew_their_tokens(key, tmp_path, capsys):
    run = tiny.run_of(texts.corpus(tmp_path / "text"), tmp_path / "run", "data.task.context_length=128")
    for name, words in (("marked", ["--watermark", str(key)]), ("plain", [])):
        assert (
            main(["sample", str(run), "--count", "1", "--seed", "7", "--out", str(tmp_path / f"{name}.txt"), *words])
            == 0
        )
    [found] = detected(capsys, run, tmp_path / "marked.txt", "--watermark", key, "--seeds", 0, 20)
    assert found["seed"] == 7
    assert found["log10_p"] < -6
    for file, other in (("marked", tmp_path / "other"), ("plain", key)):
        assert detected(capsys, run, tmp_path / f"{file}.txt", "--watermark", other)[0]["log10_p"] > -4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--watermark", "nokey"), "cannot be read"),
        (("--watermark", "key", "--seeds", "5", "4"), "the first and the last seed"),
        (("--watermark", "key", "--seeds", "0", str(2**63)), "62 bits"),
    ],
)
def test_wrong_options_are_refused(trained, key, tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    assert main(["detect", str(trained), "a.png", *words]) == 1
    assert said in capsys.readouterr().err


def test_a_file_that_is_no_image_is_refused(trained, key, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"nothing")
    assert main(["detect", str(trained), str(tmp_path / "a.png"), "--watermark", str(key)]) == 1
    assert "a.png" in capsys.readouterr().err
