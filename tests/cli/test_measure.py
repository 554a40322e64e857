"""`evaluate`, `compare`, `inspect` and `doctor` write what they say, and refuse what cannot be measured."""

import hashlib
import io
import json
import re
import shutil

import pytest
from PIL import Image

from langevin.cli import main
from langevin.modalities.image import measure
from langevin.modalities.image.classifier import train_classifier
from langevin.modalities.modality import RequestContext
from langevin.run.compare_picture import LINE
from langevin.run.directory import load_model, open_run
from langevin.training import checkpoint
from tests import pictures, tiny
from tests.cli.tables import shown_metrics


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A classifier of one epoch: what is tested is that it is asked, not how well it reads."""
    monkeypatch.setattr(measure, "train_classifier", lambda *a, **k: train_classifier(*a, **{**k, "epochs": 1}))


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """A run on enough pictures to hold some out."""
    folder = tmp_path_factory.mktemp("larger")
    return tiny.run_of(pictures.classes(folder / "data", count=120), folder / "run", "data.val_fraction=0.3")


def test_evaluating_writes_a_report_and_its_figures(larger, tmp_path, told, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run = shutil.copytree(larger, tmp_path / "run")
    status, out, err = told("evaluate", run, "--count", 16, "--seeds", 2, "--steps", 2)
    assert status == 0, err
    assert str(run / "report.html") in err
    page = (run / "report.html").read_text()
    assert page.startswith("<!")
    assert "langevin evaluate" in page
    json.loads((run / "report.json").read_text())
    figures = json.loads((run / "evaluation.json").read_text())
    assert (figures["step"], figures["count"], figures["seeds"]) == (4, 16, 2)
    assert figures["command"] == f"langevin evaluate {run} --steps 2 --count 16 --seeds 2"
    assert figures["class_consistency"] is not None
    shown = shown_metrics(run, out)
    assert {("", "class consistency"), ("random convolutions", "FD train"), ("pixels", "FD train")} < shown
    assert ("pixels", "C_T") in shown
    assert page.count('class="group"') == len({group for group, _ in shown} - {""})
    assert told("evaluate", run, "--count", 16, "--seeds", 2, "--steps", 2, "--curve")[0] == 0
    again = json.loads((run / "evaluation.json").read_text())
    assert [point["step"] for point in again.pop("curve")] == [1, 2, 3, 4]
    assert again.pop("command") == figures.pop("command") + " --curve"
    assert figures.pop("curve") == []
    assert again == figures


def test_evaluating_the_likelihood_adds_bits_beside_baselines(larger, tmp_path, told):
    run = shutil.copytree(larger, tmp_path / "run")
    asked = ["--count", 8, "--seeds", 1, "--steps", 2, "--likelihood", "--likelihood-count", 4]
    status, out, err = told("evaluate", run, *asked)
    assert status == 0, err
    figures = json.loads((run / "evaluation.json").read_text())
    assert figures["command"].endswith("--likelihood --likelihood-count 4")
    found = {row["method"]: row for row in figures["likelihood"]["rows"]}
    terms = [found[f"bound: {name}"]["held_out"]["mean"] for name in ("prior", "diffusion", "reconstruction")]
    assert found["bound"]["held_out"]["mean"] == pytest.approx(sum(terms), rel=1e-6)
    for method in (
        "flow, uniform dequantisation",
        "flow, truncated normal dequantisation",
        "flow, decoded dequantisation",
        "chain: bound",
        "chain: exact",
        "Gaussian, unconditional",
        "Gaussian mixture, unconditional",
        "independent dimensions, unconditional",
    ):
        assert 0 < found[method]["held_out"]["mean"] < 30, method
        assert found[method]["held_out"]["samples"] > 0
        assert method.split(",")[0] in out  # a narrow terminal wraps the rest
    for part in ("train", "held_out"):
        gap = found["chain: bound"][part]["mean"] - found["chain: exact"][part]["mean"]
        assert gap == pytest.approx(found["chain: gap"][part]["mean"], rel=1e-6)
        assert gap >= 0
    page = (run / "report.html").read_text()
    assert "Free energy by noise level" in page
    assert "bits say little" in page  # not a recipe for likelihood
    knots = figures["likelihood"]["knots"]
    assert len(knots) == 2 + 1  # of --steps
    assert told("sample", run, "--count", 2, "--out", tmp_path / "a.npz")[0] == 0


def test_a_captioned_run_is_measured_by_retrieval_too(tmp_path, told):
    run = tiny.run_of(pictures.captions(tmp_path / "data"), tmp_path / "run", "data.val_fraction=0.3", steps=1)
    status, _, err = told("evaluate", run, "--count", 8, "--seeds", 1)
    assert status == 0, err
    assert "trained captions" in json.loads((run / "evaluation.json").read_text())["retrieval"]


@pytest.mark.parametrize(("options", "words"), [
    (["--count", "2"], "--count must be 8 to"), (["--seeds", "0"], "--seeds must be 1 to"),
    (["--steps", "0"], "--steps must be between 1 and 10000"),
    (["--count", "8", "--guidance", "nan"], "finite"), (["--likelihood", "--likelihood-count", "1"], "at least 2"),
    (["--ema", "0.5"], "between 0 and 0.28"),
])  # fmt: skip
def test_what_cannot_be_measured_is_refused(larger, options, words, refused):
    assert words in refused("evaluate", larger, *options)


@pytest.mark.parametrize("verb", ["evaluate", "compare"])
def test_too_little_data_to_measure_against_is_said_before_any_work(verb, captioned, tmp_path, refused):
    options = ["--out", tmp_path / "c"] if verb == "compare" else []
    assert "data.val_fraction=0.2" in refused(verb, captioned, *options)


def test_comparing_writes_a_table_a_plot_and_a_picture(larger, tmp_path, told):
    out = tmp_path / "new" / "comparison"
    asked = ["--samplers", "dpm2m", "heun", "--steps", 2, 5, "--count", 10, "--out", out]
    status, printed, err = told("compare", larger, *asked)
    assert status == 0, err
    cells = json.loads((out / "comparison.json").read_text())["cells"]
    assert [(c["sampler"], c["steps"]) for c in cells] == [("dpm2m", 2), ("dpm2m", 5), ("heun", 1), ("heun", 3)]
    assert all(c["score"] >= 0 for c in cells)
    assert all(c["nfe"] == (2 * c["steps"] - 1 if c["sampler"] == "heun" else c["steps"]) for c in cells)
    Image.open(out / "comparison.png").verify()
    for cell in cells:
        Image.open(out / f"{larger.name}-{cell['sampler']}-{cell['nfe']}.png").verify()
    assert "FD " in printed


def test_runs_of_different_methods_are_measured_side_by_side_as_each_is_alone(larger, tmp_path, told):
    kinds = {"gan": ["method={kind: adversarial}"], "vae": ["method={kind: autoencoder}"]}
    data, one = larger.parent / "data", shutil.copytree(larger, tmp_path / "diffusion")
    kinds["vae"] += ["network={kind: autoencoder, dimensions: 2, width: 8}"]
    others = []
    for name, words in kinds.items():
        small = [word for word in tiny.SMALL if name != "vae" or not word.startswith("network.")]
        changes = ["training.steps=2", "data.val_fraction=0.3", *small, *words]
        assert main(["train", str(data), "--out", str(tmp_path / name), *changes]) == 0
        others.append(tmp_path / name)
    out = tmp_path / "beside"
    status, printed, err = told("compare", one, *others, "--count", 16, "--seeds", 2, "--out", out)
    assert status == 0, err
    (together, section, *shown) = json.loads((out / "report.json").read_text())["sections"]
    assert together["heading"] == "Samples"
    assert together["pictures"][0]["sha256"] == hashlib.sha256((out / "samples.png").read_bytes()).hexdigest()
    assert_rows_below_real_ones(out / "samples.png", [one, *others])
    assert [side["name"] for side in section["sides"]] == ["diffusion", "gan", "vae"]
    assert [side["facts"]["method"].split(",")[0] for side in section["sides"]] == [
        "diffusion",
        "adversarial",
        "autoencoder",
    ]
    assert [part["heading"] for part in shown] == ["diffusion", "gan", "vae"]
    (line,) = (line for line in printed.splitlines() if "ELBO, bits a dimension" in line)
    assert line.split("dimension")[1].split().count("none") == 1  # of the gan
    for side, path in zip(section["sides"], [one, *others], strict=True):
        total, weights = map(float, re.findall(r"([\d.]+) MB", side["facts"]["memory of drawing 16 at once"]))
        network = open_run(path).load()[0].model.network
        assert weights == pytest.approx(sum(4 * p.numel() for p in network.parameters()) / 1e6, rel=0.02)
        assert total > weights
    for side, run in zip(section["sides"], [one, *others], strict=True):  # as `evaluate` finds, with the same judge
        if run is not one:
            shutil.copytree(one / "evaluation", run / "evaluation")
        assert told("evaluate", run, "--count", 16, "--seeds", 2)[0] == 0
        alone = json.loads((run / "report.json").read_text())["sections"]
        (table,) = (part for part in alone if part["kind"] == "metrics")
        assert side["rows"] == table["rows"]
        assert run is one or "draws in one step" in told("compare", run, "--out", tmp_path / "c")[2]
        assert run is one or "leave it out" in told("evaluate", run, "--count", 16, "--likelihood")[2]
        assert all(row["metric"] in printed for row in table["rows"])


def assert_rows_below_real_ones(path, runs):
    """The picture has the previews of each run, below real images of the classes that they were drawn of."""
    models = [load_model(open_run(run))[0] for run in runs]
    data = models[0].modality.open()
    context = [RequestContext(model=model, data=lambda: data) for model in models]
    drawn = [one.model.run(one.model.modality.preview_plan(one)) for one in context]
    blocks = [models[0].modality.real_like(drawn[0], data), *drawn]
    assert all(one.names == ("bar", "disc") * 2 and one.columns == 2 for one in blocks)
    shown, top = Image.open(path), 0
    for one in blocks:
        block = Image.open(io.BytesIO(one.preview().content)).convert("RGB")
        heading = shown.crop((0, top, block.width, top + LINE))
        assert min(low for low, _ in heading.getextrema()) < 128, "a name is above it"
        top += LINE + block.height
        assert shown.crop((0, top - block.height, block.width, top)).tobytes() == block.tobytes()
    assert shown.height == top


def test_what_cannot_be_compared_is_refused(larger, captioned, tmp_path, refused):
    assert "different data" in refused("compare", larger, captioned, "--out", tmp_path / "c", "--count", 10)
    assert "--count must be 10 to" in refused("compare", larger, "--count", 2, "--out", tmp_path / "c")
    assert "--seeds must be 1 to" in refused("compare", larger, "--seeds", 0, "--out", tmp_path / "c")
    assert "--steps must be between 1 and" in refused("compare", larger, "--steps", 0, "--out", tmp_path / "c")
    assert "there is no run at" in refused("compare", tmp_path / "nowhere", "--out", tmp_path / "c")


def test_inspecting_a_run_names_its_parts_and_its_damaged_checkpoints(trained, tmp_path, told):
    run = shutil.copytree(trained, tmp_path / "run")
    newest = checkpoint.steps(run / "checkpoints")[0]
    (newest / "model.safetensors").write_bytes(b"")
    status, out, _ = told("inspect", run)
    assert status == 0
    assert "step-00000003 (complete)" in out
    assert "step-00000004 (damaged:" in out
    status, out, _ = told("inspect", run, "--json")
    facts = json.loads(out)
    assert facts["steps"] == 4
    assert facts["network"].startswith("dit, 0.0")


@pytest.mark.parametrize("make", [pictures.classes, pictures.captions, pictures.plain])
def test_inspecting_a_folder_says_what_is_there_and_what_train_would_choose(make, tmp_path, told):
    data = make(tmp_path / "data")
    (data / "broken.png").write_bytes(b"\x89PNG")
    status, out, _ = told("inspect", data)
    assert status == 0
    assert "`langevin train` would choose" in out
    status, out, _ = told("inspect", data, "--json")
    assert status == 0
    assert json.loads(out)["choice"]["network"]["kind"] == "dit"


def test_inspecting_what_is_not_there_is_refused(tmp_path, refused):
    assert str(tmp_path / "nowhere") in refused("inspect", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "holds nothing that can be trained on. What can be read:" in refused("inspect", tmp_path / "empty")


def test_the_doctor_says_what_the_machine_can_do(told):
    status, out, _ = told("doctor")
    assert status == 0
    assert "float32 matrix products" in out
    status, out, _ = told("doctor", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["facts"]["package torch"] != "missing"
    assert not [line for line in found["advice"] if "is needed" in line]
