"""What is denied is an error with a reason, what is held waits for a person, and every decision is written down."""

import base64
import io
import json

import httpx2 as httpx
import numpy as np
import openai
import pytest
import torch
from PIL import Image

from langevin.cli import main
from langevin.diffusion.guidance import weight_of
from langevin.modalities.image.options import Edit as Edits
from langevin.modalities.image.options import Sample as Images
from langevin.modalities.modality import Samples
from langevin.modalities.speech.options import Sample as Speech
from langevin.modalities.text.options import Sample as Texts
from langevin.run.directory import load_model, open_run
from langevin.run.generate import changed
from langevin.server import safeguards
from langevin.server.audit import Audit
from langevin.server.errors import Refused
from langevin.server.keys import Keys
from langevin.server.safeguards import Rules, Safeguards, read
from tests.server.conftest import serving
from tests.server.test_jobs import ended, events_of


@pytest.fixture
def guarded(runs, tmp_path):
    """A server that denies one class and holds another."""
    rules = Rules(deny=("disc",), hold=("bar",))
    folders = [runs / "classes", runs / "text"]
    with (
        serving(folders, tmp_path / "jobs.db", rules=rules) as (url, service, store),
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        yield http, service, store


def test_a_denied_request_is_an_error_with_a_reason_and_makes_no_step(guarded):
    http, service, store = guarded
    response = http.post("/v1/images/generations", json={"model": "classes", "prompt": "disc"})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "content_policy_violation"
    assert "the text has the phrase 'disc'" in error["message"]
    job = ended(http, http.post("/v1/jobs", json={"model": "classes", "options": {"condition": ["DISC"]}}).json()["id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "content_policy_violation")
    assert service.engine.evaluations == 0
    assert http.post("/v1/completions", json={"model": "text", "prompt": "a d1sc"}).status_code == 400
    rows = [json.loads(row["facts"]) for row in Audit(engine=store.engine).entries()]
    assert [row["verdict"] for row in rows] == ["deny"] * 3


def test_what_is_held_is_given_out_when_a_person_approves_it(guarded):
    http, _, store = guarded
    asked = {"model": "classes", "count": 1, "options": {"condition": ["bar"]}}
    ids = [http.post("/v1/jobs", json={**asked, "seed": i}).json()["id"] for i in range(2)]
    for id in ids:
        job = ended(http, id)
        assert job["status"] == "held"
        assert job["files"] == []
        assert "phrase 'bar'" in job["review"]["reason"]
        refused = http.get(f"/v1/jobs/{id}/content")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "held")
    assert [job["id"] for job in http.get("/v1/reviews").json()["data"]] == ids
    looked = http.get(f"/v1/reviews/{ids[0]}").json()["content"]
    assert base64.b64decode(looked[0]["data"])[:4] == b"\x89PNG"
    said = {"verdict": "approve", "reviewer": "anna", "reason": "it is a bar"}
    assert http.post(f"/v1/reviews/{ids[0]}", json=said).json()["status"] == "completed"
    assert http.get(f"/v1/jobs/{ids[0]}/content").content == base64.b64decode(looked[0]["data"])
    assert http.post(f"/v1/reviews/{ids[1]}", json={**said, "verdict": "reject"}).json()["status"] == "denied"
    assert http.get(f"/v1/jobs/{ids[1]}/content").status_code == 403
    assert http.post(f"/v1/reviews/{ids[1]}", json=said).status_code == 409
    assert http.post(f"/v1/reviews/{ids[1]}", json={"verdict": "approve"}).status_code == 400
    events = [(row["event"], json.loads(row["facts"]).get("verdict")) for row in Audit(engine=store.engine).entries()]
    assert events.count(("review", "approve")) == events.count(("review", "reject")) == 1
    assert events.count(("samples", "hold")) == 2


def test_a_request_that_a_person_has_to_look_at_is_sent_to_the_jobs(guarded):
    http, service, _ = guarded
    for stream in (False, True):
        body = {"model": "classes", "prompt": "bar", "stream": stream}
        response = http.post("/v1/images/generations", json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "needs_review")
    assert service.engine.evaluations == 0


def test_nothing_of_what_is_held_is_shown_on_the_way(guarded):
    http, _, _ = guarded
    asked = {"model": "classes", "count": 1, "steps": 50, "previews": 3, "options": {"condition": ["bar"]}}
    found = events_of(http, http.post("/v1/jobs", json=asked).json()["id"])
    assert "preview" not in [kind for kind, _ in found]
    assert found[-1][1]["status"] == "held"
    id = found[-1][1]["id"]
    assert http.delete(f"/v1/jobs/{id}").status_code == 409


def test_texts_in_options_are_checked_whole_and_names_of_files_are_not(tmp_path):
    rules = Rules(deny=("bad phrase",))
    guard = Safeguards(rules=rules)
    for prompt in ("data: a bad phrase", "a bad phrase" + " " * 200_000):
        with pytest.raises(Refused, match="bad phrase"):
            guard.request("x", "m", Texts(prompt=prompt))
    (tmp_path / "lines.txt").write_text("one\na bad phrase\n")
    with pytest.raises(Refused, match="bad phrase"):
        guard.request("x", "m", Speech(file=str(tmp_path / "lines.txt")))
    only = Safeguards(rules=Rules(allowed=("cat",)))
    mask = str(tmp_path / "mask.png")
    Image.new("L", (4, 4)).save(mask)
    assert only.request("x", "m", Edits(input=mask, mask=mask, condition=("cat",))).verdict == "allow"


def test_copies_that_cannot_be_ruled_out_are_held(trained, tmp_path):
    run = open_run(trained)
    values = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    samples = Samples(modality=run.recipe.data, values=values)
    for closed, verdict in ((True, "hold"), (False, "allow")):
        guard = Safeguards(rules=Rules(near_copies="hold", fail_closed=closed))
        found = guard.samples("x", samples, tmp_path / "nothing", "0", safeguards.ALLOWED)
        assert found.verdict == verdict


def test_only_reviewers_look_at_what_is_held(runs, tmp_path):
    (tmp_path / "keys").write_text("anna a-key-of-more-than-16 reviewer\nben b-key-of-more-than-16\n")
    with serving([runs / "classes"], tmp_path / "jobs.db", keys=Keys.read(tmp_path / "keys")) as (url, _, _):
        for key, status in (("a-key-of-more-than-16", 200), ("b-key-of-more-than-16", 403)):
            assert httpx.get(f"{url}/v1/reviews", headers={"Authorization": f"Bearer {key}"}).status_code == status


def test_moderations_say_what_the_rules_say(guarded):
    http, _, _ = guarded
    client = openai.OpenAI(base_url=f"{http.base_url}/v1", api_key="unused", max_retries=0)
    found = client.moderations.create(input=["a square", "a disc", "the bar"]).results
    assert [one.flagged for one in found] == [False, True, True]
    client.close()


def test_copies_of_training_data_are_held_and_other_samples_are_not(trained):
    """Among samples, one that is a training image."""
    run = open_run(trained)
    train, val = run.open_data()
    guard = Safeguards(rules=Rules(near_copies="hold"))

    def decided(values):
        samples = Samples(modality=run.recipe.data, values=values)
        return guard.samples("x", samples, run.path, str(run.facts["data"]), safeguards.ALLOWED)

    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), np.uint8))
    assert decided(noise) == safeguards.ALLOWED
    found = decided(torch.cat([noise, train.read(torch.tensor([4]))]))
    assert (found.verdict, found.check) == ("hold", "near_copies")
    assert "sample 3 is a near copy of item 4" in found.reason
    assert len(val)


@pytest.mark.parametrize(
    ("text", "message"),
    [("deny: 5", "deny"), ("- a", "names with values"), ("unknown: [a]", "unknown"), ("deny: ['!!']", "needs letters"),
     ("near_copies: blur", "'hold' or 'deny'"), ("deny: [", "expected the node content")],
)  # fmt: skip
def test_rules_that_are_none_are_refused(tmp_path, text, message):
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "rules.yaml")


def test_without_a_log_nothing_is_made_if_the_rules_say_so(runs, tmp_path):
    with serving([runs / "classes"], tmp_path / "jobs.db", rules=Rules()) as (url, service, store):
        with store.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE audit")
        with httpx.Client(base_url=url) as http:
            response = http.post("/v1/images/generations", json={"model": "classes", "prompt": "disc"})
        assert (response.status_code, response.json()["error"]["code"]) == (503, "audit_unavailable")
        assert service.engine.evaluations == 0


def test_the_command_line_verifies_the_log(guarded, tmp_path, capsys):
    http, _, store = guarded
    http.post("/v1/images/generations", json={"model": "classes", "prompt": "disc"})
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    assert main(["audit", "verify", "--database", url]) == 0
    assert "1 rows, none changed" in capsys.readouterr().err
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE audit SET event = 'nothing'")
    assert main(["audit", "verify", "--database", url]) == 1
    assert "row 1 was changed" in capsys.readouterr().err
    assert main(["audit", "show", "--database", url]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["event"] == "nothing"
    assert main(["audit", "verify", "--database", f"sqlite:///{tmp_path / 'none.db'}"]) == 1


def judge(samples):
    """For the tests: what is dark is held."""
    if samples.values.float().mean() > 300:
        raise RuntimeError("broken")
    return "it is dark" if float(samples.values.float().mean()) < 200 else None


def test_a_function_of_the_users_own_looks_at_samples(runs, trained, tmp_path):
    guard = Safeguards(rules=Rules(classifier="tests.server.test_safeguards:judge"))
    run = open_run(trained)

    def decided(level):
        samples = Samples(modality=run.recipe.data, values=torch.full((1, 3, 8, 8), level))
        return guard.samples("x", samples, run.path, "", safeguards.ALLOWED)

    assert decided(250).verdict == "allow"
    assert (decided(10).verdict, decided(10).reason) == ("hold", "it is dark")
    broken = decided(400)
    assert (broken.verdict, broken.check) == ("hold", "tests.server.test_safeguards:judge")
    assert "has failed" in broken.reason
    assert "RuntimeError: broken" in broken.reason
    (tmp_path / "rules.yaml").write_text("classifier: tests.server.test_safeguards:nothing\n")
    with pytest.raises(ValueError, match="has no function nothing"):
        read(tmp_path / "rules.yaml")
    with (
        serving([runs / "classes"], tmp_path / "jobs.db", rules=guard.rules) as (url, _, _),
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        job = ended(http, http.post("/v1/jobs", json={"model": "classes", "count": 1, "previews": 2}).json()["id"])
        assert job["status"] == "held"
        assert {kind for kind, _ in events_of(http, job["id"])} == {"job"}  # previews would show it


def test_samples_near_to_a_file_of_the_block_list_are_denied(trained, tmp_path):
    run = open_run(trained)
    train, _ = run.open_data()
    (tmp_path / "blocked").mkdir()
    pixels = train.read(torch.arange(1))[0]
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "blocked" / "a.png")
    guard = Safeguards(rules=Rules(block_list=tmp_path / "blocked"))

    def decided(values):
        samples = Samples(modality=run.recipe.data, values=values)
        return guard.samples("x", samples, run.path, str(run.facts["data"]), safeguards.ALLOWED)

    near = (pixels.int() + torch.randint(-2, 3, pixels.shape)).clamp(0, 255).to(torch.uint8)
    assert decided(near[None]).verdict == "deny"
    assert "of the block list" in decided(near[None]).reason
    other = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), np.uint8))
    assert decided(other).verdict == "allow"
    (tmp_path / "blocked" / "b.png").write_bytes(b"nothing")
    assert decided(other).verdict == "hold"  # the list cannot be read
    (tmp_path / "rules.yaml").write_text("block_list: nowhere\n")
    with pytest.raises(ValueError, match="there is no folder nowhere"):
        read(tmp_path / "rules.yaml")


def test_all_requests_are_led_away_from_what_the_rules_avoid(runs, trained, tmp_path):
    """Whatever the request itself says: it gets the samples of one that avoids it, with guidance."""
    model, guard = load_model(open_run(trained))[0], Safeguards(rules=Rules(avoid="bar"))
    options, led = guard.steered(Images(condition=("disc",), avoid=("disc",)), model)
    assert (options.avoid, weight_of(led.sampling.guidance)) == (("bar",), 2.0)
    strong = changed(model, guidance=3.0)
    assert weight_of(guard.steered(Images(), strong)[1].sampling.guidance) == 3.0
    for unknown in (Safeguards(rules=Rules(avoid="cloud")), Safeguards()):
        assert unknown.steered(Images(), model) == (Images(), model)
    text = Texts(prompt="a")
    assert guard.steered(text, model)[0] is text
    asked = {"model": "classes", "count": 3, "seed": 3, "options": {"condition": ["disc"]}}
    led = {**asked, "guidance": 2.0, "options": {"condition": ["disc"], "avoid": ["bar"]}}
    against = {**asked, "guidance": 1.001, "options": {"condition": ["disc"], "avoid": ["disc"]}}
    contents = []
    for body, rules in (
        (asked, guard.rules), (against, guard.rules),
        (led, None), (asked, None),
    ):  # fmt: skip
        with (
            serving([runs / "classes"], tmp_path / f"{len(contents)}.db", rules=rules) as (url, _, _),
            httpx.Client(base_url=url, timeout=30) as http,
        ):
            job = ended(http, http.post("/v1/jobs", json={**body, "reproducible": True}).json()["id"])
            assert job["status"] == "completed", job
            contents.append([Image.open(io.BytesIO(http.get(one["url"]).content)).tobytes() for one in job["files"]])
    assert contents[0] == contents[1] == contents[2] != contents[3]
