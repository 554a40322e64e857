"""Runs on the Hub: what is pushed draws the same bits when it is pulled, holds no data, and damaged files are refused."""

import getpass
import hashlib
import json
import platform
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load, save

from langevin import notebook
from langevin.cli import main
from langevin.evaluation.report import MetricRow, Metrics, Report, Source
from langevin.evaluation.statistics import Interval
from langevin.recipe.read import check, dump, override, read_tree
from langevin.run import hub as hub_module
from langevin.run import pulled as pulled_module
from langevin.run.directory import open_run
from langevin.run.hub import pull, push
from langevin.run.published import MANIFEST, published, require_anonymous, strip_paths, without_paths
from langevin.training import checkpoint, references
from langevin.user_function import CodePermission
from tests import pictures, tiny
from tests.hub_server import READER, client

NAME = "ada/shapes"


@pytest.fixture
def store(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with client(monkeypatch, tmp_path) as store:
        yield store


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "runs" / "mine")


def weights(path):
    built, step, _ = open_run(path).load()
    return step, dict(built.model.network.named_parameters())


def drawn(path):
    return torch.as_tensor(notebook.load(path).sample(3, seed=5, steps=3).values)


def test_a_pulled_run_draws_the_bits_of_the_pushed_one(store, run, tmp_path):
    assert main(["push", str(run), NAME, "--message", "first"]) == 0
    assert main(["pull", NAME, "--out", str(tmp_path / "theirs")]) == 0
    assert store.messages == ["first"]
    assert torch.equal(drawn(run), drawn(tmp_path / "theirs"))
    (step, ours), (pulled_step, theirs) = weights(run), weights(tmp_path / "theirs")
    assert step == pulled_step
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    public = hashlib.sha256(store.files(NAME)["model.safetensors"]).hexdigest()
    reference = f"{checkpoint.identity(run / 'checkpoints')}/{public}"
    for path in (run, tmp_path / "theirs"):
        assert references.agrees(str(path), reference)


def test_a_run_that_claims_to_be_another_is_not_taken_for_it(store, run, tmp_path):
    push(run, NAME)
    files = store.files(NAME)
    own, public = checkpoint.identity(run / "checkpoints"), hashlib.sha256(files["model.safetensors"]).hexdigest()
    other = save({name: value + 1 for name, value in load(files["model.safetensors"]).items()})
    claimed = json.loads(files[MANIFEST]) | {"identity": own, "published": public}
    changed = hashed({**files, MANIFEST: json.dumps(claimed).encode()}, **{"model.safetensors": other})
    store.put("eve/shapes", **changed)
    pulled = pull("eve/shapes", tmp_path / "evil").path
    manifest = next(pulled.glob("checkpoints/step-*/manifest.json"))
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"identity": own}))
    for reference in (own, f"{own}/{public}"):
        assert not references.agrees(str(pulled), reference)
        with pytest.raises(ValueError, match="is one with other weights"):
            references.require_weights("base", str(pulled), reference)


def test_a_run_whose_teacher_is_gone_is_published_with_the_hash_it_has():
    tree = {"method": {"teacher": "/gone/teacher", "sha256": "0" * 64}}
    assert references.with_published(tree, lambda path: "1" * 64) == tree


def test_weights_of_another_network_make_no_run(store, run, tmp_path):
    push(run, NAME)
    weights = load(store.files(NAME)["model.safetensors"])
    name = next(iter(weights))
    for wrong in ({name: weights[name]}, {**weights, name: torch.zeros(1, 2, 3)}):
        store.put(NAME, **hashed(store.files(NAME), **{"model.safetensors": save(wrong)}))
        with pytest.raises(ValueError, match="the weights are of another network"):
            pull(NAME, tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def test_files_that_are_too_large_are_not_fetched(store, run, tmp_path, monkeypatch):
    push(run, NAME)
    files = store.files(NAME)
    store.requests.clear()
    monkeypatch.setattr(pulled_module, "MOST_OTHERWISE", 1000)
    with pytest.raises(ValueError, match=r"bytes, which is too large for one of a run: nothing was pulled"):
        pull(NAME, tmp_path / "theirs")
    store.put(NAME, **{**files, MANIFEST: b" " * (2**22 + 1)})
    with pytest.raises(ValueError, match=r"langevin\.json has 4,194,305 bytes, and is at most"):
        pull(NAME, tmp_path / "theirs")
    assert not [path for _, path in store.requests if path.endswith("README.md")]


def test_only_paths_are_cut(run):
    tree = {
        "classes": ["/m/01g317", "/", "~", "C:/x"], "alphabet": "/ab", "path": "/home/ada/secret/photos",
        "labels": "../ada/labels.csv", "held_out_captions": ["a red dog"], "init_from": "C:\\runs\\base",
        "parts": [{"path": "s3://ada:secret@bucket/x?signature=1"}, {"teacher": "runs/t"}],
    }  # fmt: skip
    assert strip_paths(tree) == {
        **tree, "path": "photos", "labels": "labels.csv", "held_out_captions": (), "init_from": "base",
        "parts": [{"path": "s3://bucket/x"}, {"teacher": "t"}],
    }  # fmt: skip
    recipe = open_run(run).recipe
    named = replace(recipe, data=replace(recipe.data, classes=("/m/01", "/m/02"), held_out_captions=("a",)))
    assert without_paths(named).data.classes == ("/m/01", "/m/02")
    assert without_paths(named).data.held_out_captions == ()


@pytest.mark.parametrize("write", [json.dumps, lambda text: yaml.safe_dump({"a": text}), str])
def test_a_home_with_an_accent_is_found(write, monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/andré"))
    with pytest.raises(ValueError, match="a folder of this machine"):
        require_anonymous({"a.json": write("/home/andré/data").encode()}, tmp_path)


def test_the_repository_has_the_shape_of_the_hub_and_none_of_the_data(store, run):
    shutil.rmtree(run / "samples")  # the data may be gone, too
    between = Interval(estimate=2.5, low=2.25, high=2.75, level=0.95, n=3)
    row = MetricRow(metric="FD", generated=between, better="lower", meaning="")
    source = Source(samples={}, seeds=[0], command=f"langevin evaluate {run}")
    Report(title="x", sections=[Metrics(heading="m", rows=[row], source=source)], summary="").write(run)
    push(run, NAME, licence="cc0-1.0")
    files = store.files(NAME)
    assert set(files) - {".gitattributes"} == {
        "README.md", "config.json", "model.safetensors", "recipe.yaml", "environment.json", "figures.json",
        "samples/preview.png", MANIFEST,
    }  # fmt: skip
    head = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert (head["library_name"], head["license"]) == ("langevin", "cc0-1.0")
    assert head["pipeline_tag"] == "unconditional-image-generation"
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "FD", "name": "FD", "value": 2.5}]
    text = b"\n".join(data for name, data in files.items() if not name.endswith(("safetensors", "png"))).decode()
    for private in (str(run.parent), str(Path.home()), f"/{getpass.getuser()}/", platform.node()):
        assert private not in text
    assert yaml.safe_load(files["recipe.yaml"])["data"]["path"] == "data"
    assert "broken" not in json.loads(files["environment.json"])


def test_names_of_files_that_could_not_be_read_stay_here(store, run):
    facts = json.loads((run / "environment.json").read_text()) | {"broken": {"grandmother.png": "cut off"}}
    (run / "environment.json").write_text(json.dumps(facts))
    made = published(open_run(run), repository=NAME)
    assert not any(b"grandmother" in data for data in made.files.values())


def test_a_note_that_names_a_folder_of_this_machine_is_refused(store, run):
    (run / "NOTES.md").write_text(f"See {run.parent}/other.")
    with pytest.raises(ValueError, match=r"README.md names .*, a folder of this machine"):
        push(run, NAME)
    assert NAME not in store.commits


def test_a_pulled_run_says_what_it_lacks(store, run, tmp_path):
    push(run, NAME)
    pulled = pull(NAME, tmp_path / "theirs")
    with pytest.raises(ValueError, match=r"was pulled, with weights of the EMA length 0\.1 alone, and 0 is asked for"):
        pulled.load(ema=0.0)
    assert main(["train", str(tmp_path / "nothing")]) == 1
    shutil.copytree(Path(open_run(run).recipe.data.path), tmp_path / "data")
    with pytest.raises(ValueError, match="cannot be resumed: begin a new run"):
        notebook.load(tmp_path / "theirs").resume()


def test_a_second_push_replaces_the_first_and_sends_only_what_changed(store, run):
    push(run, NAME)
    sent = [one for one in store.requests if one[0] == "PUT"]
    (run / "NOTES.md").write_text("For tests.")
    push(run, NAME)
    again = [one for one in store.requests if one[0] == "PUT"][len(sent) :]
    large = {hashlib.sha256(store.files(NAME)["model.safetensors"]).hexdigest()}
    assert not {name for _, name in again} & large
    assert b"For tests." in store.files(NAME)["README.md"]


def test_an_interrupted_push_commits_nothing_and_goes_on(store, run):
    store.refuse_after = 1
    with pytest.raises(ValueError, match=r"could not push to ada/shapes: .*`langevin push .*` goes on from there"):
        push(run, NAME)
    assert MANIFEST not in store.files(NAME)
    kept = set(store.large)
    assert len(kept) == 1
    store.refuse_after = None
    store.requests.clear()
    push(run, NAME)
    assert MANIFEST in store.files(NAME)
    assert not kept & {name for verb, name in store.requests if verb == "PUT"}


@pytest.mark.parametrize(
    ("token", "said"),
    [(None, "no token to push to ada/shapes with"), (READER, "may only read"), ("hf_wrong", "wrong or expired")],
)
def test_tokens_that_cannot_push(monkeypatch, tmp_path, run, capsys, token, said):
    with client(monkeypatch, tmp_path, token=token) as store:
        assert main(["push", str(run), NAME]) == 1
        assert said in capsys.readouterr().err
        assert NAME not in store.commits


def test_no_network(monkeypatch, run, tmp_path, capsys):
    with client(monkeypatch, tmp_path):
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        assert main(["push", str(run), NAME]) == 1
        assert "no connection to the Hub" in capsys.readouterr().err
        assert main(["pull", NAME]) == 1
        assert "no connection to the Hub" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "shapes").exists()


def test_a_repository_with_other_things_is_left_alone(store, run):
    store.put(NAME, **{"pytorch_model.bin": b"x"})
    with pytest.raises(ValueError, match=r"holds files that are no run of langevin, such as pytorch_model\.bin"):
        push(run, NAME)


@pytest.mark.parametrize("name", ["shapes", "a/b/c", "../x/y", "a/..", "a b/c", "-/x", "a/" + "b" * 97])
def test_names_of_repositories(store, run, name):
    with pytest.raises(ValueError, match="is no repository: write OWNER/NAME"):
        push(run, name)


def test_what_is_not_there(store, tmp_path):
    with pytest.raises(ValueError, match="there is no such repository"):
        pull(NAME, tmp_path / "x")
    store.put(NAME, **{"README.md": b"hello"})
    with pytest.raises(ValueError, match=r"has no langevin\.json, so it holds no run"):
        pull(NAME, tmp_path / "x")
    with pytest.raises(ValueError, match="there is no such repository or revision"):
        pull(NAME, tmp_path / "x", revision="v9")


def hashed(files, **changes):
    """The files of a repository with others, and their hashes in the manifest."""
    changed = {**files, **changes}
    manifest = json.loads(files[MANIFEST])
    for name, data in changes.items():
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return {**changed, MANIFEST: json.dumps(manifest).encode()}


def test_a_manifest_with_a_hostile_name_is_refused(store, run, tmp_path):
    push(run, NAME)
    files = store.files(NAME)
    names = ("../evil", "/etc/cron", "a\\..\\b", "evil.py", "samples/x/../../y", "weights.pkl", "solvers/../a.json")
    for name in names:
        store.put(NAME, **hashed(files, **{name: b"import os"}))
        with pytest.raises(ValueError, match="which is no file of a run: nothing was pulled"):
            pull(NAME, tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def test_damaged_files_are_refused_and_foreign_ones_left(store, run, tmp_path):
    push(run, NAME)
    files = store.files(NAME)
    for name in ("model.safetensors", "recipe.yaml"):
        data = bytearray(files[name])
        data[len(data) // 2] ^= 1
        store.put(NAME, **{name: bytes(data)})
        with pytest.raises(ValueError, match=rf"{name} is not what langevin\.json states"):
            pull(NAME, tmp_path / "theirs")
        store.put(NAME, **{name: files[name][:-1]})
        with pytest.raises(ValueError, match=f"{name} is missing, or not of the"):
            pull(NAME, tmp_path / "theirs")
        store.put(NAME, **{name: files[name]})
    assert not (tmp_path / "theirs").exists()
    store.put(NAME, **{"evil.pkl": b"\x80\x04", "setup.py": b"import os"})
    said = list[str]()
    pulled = pull(NAME, tmp_path / "theirs", say=said.append)
    assert "left where they are, as they are no part of a run: evil.pkl, setup.py" in said
    assert not list(pulled.path.rglob("*.pkl")) + list(pulled.path.rglob("*.py"))


def test_weights_that_are_a_pickle_are_refused(store, run, tmp_path):
    push(run, NAME)
    store.put(NAME, **hashed(store.files(NAME), **{"model.safetensors": b"\x80\x04cos\nsystem\n."}))
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read"):
        pull(NAME, tmp_path / "theirs")


def test_code_needs_a_permission(store, run, tmp_path):
    push(run, NAME)
    changes = ["process.drift={kind: function, function: 'spring:f'}", "process.terminal=blend", "network.channels=2"]
    recipe = check(override(read_tree("toy/double-well"), changes), where="the recipe")
    store.put(NAME, **hashed(store.files(NAME), **{"recipe.yaml": dump(recipe).encode()}))
    with pytest.raises(ValueError, match="names the function spring:f, whose code would be run"):
        pull(NAME, tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()
    with pytest.raises(ValueError, match="there is no module spring"):
        pull(NAME, tmp_path / "theirs", code=CodePermission.of((), allow=True))


def test_an_adapter_is_pushed_alone_and_finds_its_base(store, run, tmp_path):
    data = pictures.classes(tmp_path / "more")
    words = [
        "adapt",
        str(run),
        str(data),
        "--out",
        "runs/adapted",
        "--count",
        "0",
        "--share",
        "0.5",
        "training.steps=2",
    ]
    assert main(words) == 0
    push(run, "ada/mine")
    push(Path("runs/adapted"), NAME)
    head = yaml.safe_load(store.files(NAME)["README.md"].decode().split("---")[1])
    assert head["base_model"] == "ada/mine"
    said = list[str]()
    pulled = pull(NAME, tmp_path / "elsewhere" / "adapted", say=said.append)
    assert any("needs the run mine" in line and "beside it" in line for line in said)
    pull("ada/mine", tmp_path / "elsewhere" / "mine")
    base = yaml.safe_load(store.files(NAME)["recipe.yaml"])["adapter"]["sha256"]
    assert base.endswith("/" + hashlib.sha256(store.files("ada/mine")["model.safetensors"]).hexdigest())
    shutil.move(run, tmp_path / "gone")
    ours = drawn_with_base(tmp_path / "gone", Path("runs/adapted"), tmp_path)
    assert torch.equal(drawn(pulled.path), ours)
    on_base = ["sample", str(tmp_path / "elsewhere" / "mine"), "--adapter", str(pulled.path), "--count", "2"]
    assert main(on_base) == 0


def drawn_with_base(base, adapted, folder):
    """Samples of an adapted run, whose base is put back for that."""
    shutil.copytree(base, folder / "runs" / "mine")
    return drawn(adapted)


def test_a_command_that_names_a_repository_pulls_it_once(store, run, tmp_path, monkeypatch):
    push(run, NAME)
    monkeypatch.chdir(tmp_path)
    assert main(["sample", f"hub:{NAME}", "--count", "2", "--steps", "2"]) == 0
    store.requests.clear()
    assert torch.equal(torch.as_tensor(notebook.load(f"hub:{NAME}").sample(3, seed=5, steps=3).values), drawn(run))
    assert store.requests == []
    with pytest.raises(ValueError, match="is another run than bob/shapes"):
        hub_module.at_hand("hub:bob/shapes")


def test_a_push_at_the_end_of_a_training_that_fails_loses_nothing(store, trained, capsys):
    data = open_run(trained).recipe.data.path
    store.put(NAME, **{"model.bin": b"x"})
    assert main(["train", data, "training.steps=2", *tiny.SMALL, "--push", NAME, "--out", "runs/a"]) == 1
    assert "runs/a is trained, and was not pushed: " in capsys.readouterr().err
    assert weights(Path("runs/a"))[0] == 2
    assert main(["push", "runs/a", "ada/other"]) == 0
