"""What docs/extend.md says, done literally to a copy of the package: its files, its changed lines, and then the verbs."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx2 as httpx
import numpy as np
import openai
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extend.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M))
BLOCK = re.compile(r"^```(python|diff)\n(.*?)^```", re.S | re.M)
SMALL = ("training.steps=2", "training.batch=4")
pytestmark = pytest.mark.slow


def follow(section: str, root: Path) -> None:
    """Write the files of a section, and change the lines that it changes."""
    for language, block in BLOCK.findall(SECTIONS[section]):
        head, _, body = block.partition("\n")
        if language == "python":
            path = root / head.removeprefix("# ")
            path.parent.mkdir(exist_ok=True)
            path.write_text(body)
            continue
        path = root / head.removeprefix("--- ")
        text, added = path.read_text(), ""
        for line in body.splitlines(keepends=True):
            mark, line = line[0], line[1:]
            if mark == "+":
                added += line
                continue
            assert text.count(line) == 1, f"{path.name} has no single line {line!r}"
            if mark == "-":  # what is added below takes its place
                text = text.replace(line, "\0")
            elif "\0" in text:
                text = text.replace("\0", added).replace(line, line)
                added = ""
            else:
                text = text.replace(line, added + line if added else line + "\1")
                added = ""
        text = text.replace("\0", added) if "\0" in text else text.replace("\1", added)
        path.write_text(text.replace("\1", ""))


@pytest.fixture
def copy(tmp_path):
    """Runs commands with a copy of the package and of the laws, changed as a section says."""
    shutil.copytree(ROOT / "src", tmp_path / "src")
    shutil.copytree(ROOT / "tests", tmp_path / "tests")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path / 'src'}{os.pathsep}{tmp_path}", "OMP_NUM_THREADS": "1"}

    def run(*words, fails=False):
        done = subprocess.run(
            [sys.executable, "-m", *map(str, words)], env=env, cwd=tmp_path, capture_output=True, text=True
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    run.environment = env
    return run


def laws(copy, *files, only):
    out = copy(
        "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "-k", only, *(f"tests/laws/{name}.py" for name in files)
    )
    return int(re.findall(r"(\d+) passed", out)[0])


def test_a_sampler(tmp_path, copy):
    follow("A sampler", tmp_path)
    small = ("network.width=16", "network.depth=1", "sampling.sampler={kind: mine, momentum: 0.2}")
    copy("langevin", "train", "toy/mixture", "--out", "run", *SMALL, *small)
    assert "momentum: 0.2" in (tmp_path / "run" / "recipe.yaml").read_text()
    copy("langevin", "sample", "run", "--sampler", "mine momentum=0.3", "--steps", "4", "--out", "a.npz")
    assert "did you mean 'momentum'?" in copy("langevin", "sample", "run", "--sampler", "mine momentom=0.3", fails=True)
    only = "mine or union or under_the_laws"
    assert laws(copy, "test_parts", "test_sampler_batching", "test_sampler_ways", only=only) > 20


def test_a_schedule(tmp_path, copy):
    follow("A schedule", tmp_path)
    small = ("network.width=16", "network.depth=1", "process.schedule={kind: power, power: 1.2}")
    copy("langevin", "train", "toy/mixture", "--out", "run", *SMALL, *small)
    assert "power: 1.2" in (tmp_path / "run" / "recipe.yaml").read_text()
    copy("langevin", "sample", "run", "--steps", "4", "--out", "a.npz")
    assert laws(copy, "test_schedule", "test_parts", only="power or schedule") > 10


def test_a_network(tmp_path, copy):
    follow("A network", tmp_path)
    for kind, level in (("cat", 60), ("dog", 180)):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(8):
            pixels = np.clip(np.random.default_rng(i).normal(level, 30, (8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / kind / f"{i}.png")
    copy("langevin", "train", "photos", "--out", "run", *SMALL, "network={kind: conv, width: 16}")
    copy("langevin", "sample", "run", "--condition", "cat", "--count", "2", "--steps", "2", "--out", "a.png")
    refused = copy("langevin", "train", "toy/mixture", "network={kind: conv}", "--out", "b", fails=True)
    assert "points data is read by network.kind mlp, and this is conv" in refused


@pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
def test_a_modality(tmp_path, copy):
    follow("A modality", tmp_path)
    (tmp_path / "years").mkdir()
    for i in range(20):
        year = 10 - 12 * np.cos(np.arange(32) / 16 * np.pi) + np.random.default_rng(i).normal(0, 2, 32)
        np.savetxt(tmp_path / "years" / f"{i:02}.celsius", year)
    assert ".celsius files" in copy("langevin", "inspect", "years")
    copy("langevin", "train", "years", "--out", "run", *SMALL)
    assert "--warmer" in copy("langevin", "sample", "run", "--help")
    copy("langevin", "sample", "run", "--warmer", "2", "--count", "3", "--steps", "2", "--out", "a.npz")
    copy("langevin", "sample", "run", "--count", "3", "--steps", "2", "--out", "b.npz")
    warmer, plain = (np.load(tmp_path / name)["degrees"] for name in ("a.npz", "b.npz"))
    np.testing.assert_allclose(warmer, plain + 2, atol=1e-4)
    copy("langevin", "evaluate", "run", "--count", "8", "--steps", "2")
    copy("langevin", "compare", "run", "--samplers", "ddim", "--steps", "2", "--count", "10", "--out", "c")
    copy("langevin", "train", "toy/mixture", "--out", "points", *SMALL, "network.width=16", "network.depth=1")
    assert "--warmer is an option of runs of weather" in copy(
        "langevin", "sample", "points", "--warmer", "1", fails=True
    )
    served(tmp_path, copy.environment)


def served(root, environment):
    """A new modality's requests are answered and shown without a change of the server: its options, also as OpenAI's."""
    with (root / "src/langevin/modalities/weather/options.py").open("a") as file:
        file.write(
            "\n\nENDPOINTS = {'videos': lambda prompt, seconds=None, reference=None: Sample(warmer=float(prompt))}\n"
        )
    command = [sys.executable, "-m", "langevin", "serve", "run", "--port", "0"]
    with subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = next(found[0] for line in server.stderr if (found := re.search(r"http://[\d.:]+", line)))
            with httpx.Client(base_url=url, timeout=60) as http:
                about = http.get("/v1/runs/run").json()
                assert about["verbs"]["sample"]["properties"]["warmer"]["description"] == "Degrees to add."
                assert about["endpoints"] == ["/v1/videos"]
                body = {"model": "run", "count": 3, "seed": 0, "steps": 2, "options": {"warmer": 2}}
                job = wait(http, f"/v1/jobs/{http.post('/v1/jobs', json=body).json()['id']}")
                [file] = job["files"]
                warmer = np.reshape(degrees(http.get(file["url"]).text), (3, -1))
                np.testing.assert_allclose(warmer, np.load(root / "a.npz")["degrees"], atol=0.051)  # to a tenth
                answer = http.post("/v1/jobs", json={**body, "options": {"colder": 2}})
                assert (answer.status_code, answer.json()["error"]["param"]) == (400, "options.colder")
            client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)
            video = client.videos.create(model="run", prompt="2", extra_body={"seed": 0, "num_inference_steps": "2"})
            video = client.videos.poll(video.id, poll_interval_ms=100)
            assert (video.status, video.progress, video.model) == ("completed", 100, "run")
            film = degrees(client.videos.download_content(video.id).text)
            np.testing.assert_allclose(film, warmer[0])
            assert next(iter(client.videos.list())).id == video.id
            client.videos.delete(video.id)
            with pytest.raises(openai.NotFoundError):
                client.videos.retrieve(video.id)
            with pytest.raises(openai.BadRequestError, match="prompt"):
                client.videos.create(model="run", prompt="")
            client.close()
            formed(url)
        finally:
            server.terminate()
            assert server.wait(30) == 0


def degrees(text):
    """The numbers of a year."""
    return [float(word) for word in text.split()]


def wait(http, path):
    """The job at a path when it is done."""
    for _ in range(600):
        job = http.get(path).json()
        if job["status"] not in ("queued", "in_progress"):
            return job
        time.sleep(0.1)
    raise AssertionError(job)


def formed(url):
    """The page has a form of its options."""
    sync_api, chromium = pytest.importorskip("playwright.sync_api"), shutil.which("chromium")
    if chromium is None:
        return
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(base_url=url)
        page.goto("/#/create/run")
        page.get_by_label("warmer", exact=True).fill("3")
        page.get_by_label("Samples").fill("1")
        page.get_by_role("button", name="Create", exact=True).click()
        page.get_by_role("heading", name="Samples", exact=True).wait_for(timeout=30_000)
        assert len(degrees(page.locator(".sample pre").inner_text())) == 32
        browser.close()
