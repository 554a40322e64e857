"""The page in a real browser: it creates, compares, shows and checks, without errors of the console and of axe-core.

It needs playwright and a Chromium: `pip install playwright axe-playwright-python`, and the browser of the system."""

import base64
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tests import clips, pictures, tiny
from tests.server.conftest import serving

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the page is tested with playwright, which is not installed"
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
TRAINING = [change for change in (*tiny.SMALL, "training.steps=100000", "data.val_fraction=0.2") if "[" not in change]
SHOTS = os.environ.get("LANGEVIN_SCREENSHOTS")  # a folder, to look at


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark", "phone"])
def page(request, browser, server):
    """A page whose console must stay silent."""
    sizes = {"width": 390, "height": 844} if request.param == "phone" else {"width": 1280, "height": 900}
    scheme = "dark" if request.param == "dark" else "light"
    context = browser.new_context(viewport=sizes, color_scheme=scheme, base_url=server)
    page = context.new_page()
    problems = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.kind = request.param
    yield page
    context.close()
    assert problems == []


def shot(page, name):
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}-{page.kind}.png", full_page=True)


def test_an_image_is_created_and_its_parameters_are_used_again(page):
    page.goto("/#/create/classes")
    page.get_by_label("disc", exact=True).first.check()
    page.get_by_label("Samples").fill("2")
    page.get_by_label("Steps").fill("30")
    shot(page, "form")
    page.get_by_role("button", name="Create", exact=True).click()
    page.get_by_role("heading", name="Samples", exact=True).wait_for(timeout=30_000)
    assert page.locator(".sample img").count() == 2
    assert page.locator(".sample img").first.evaluate("image => image.naturalWidth") == 8
    assert "langevin sample classes --count 2" in page.locator("code").first.inner_text()
    shot(page, "created")
    page.get_by_role("link", name="Gallery").click()
    page.get_by_role("link", name="Use these parameters").first.click()
    page.get_by_label("disc", exact=True).first.wait_for()
    assert page.get_by_label("disc", exact=True).first.is_checked()
    assert page.get_by_label("Steps").input_value() == "30"


def test_a_mask_is_painted_and_its_part_drawn_anew(page, tmp_path):
    given = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(given).save(tmp_path / "given.png")
    page.goto("/#/create/classes")
    page.get_by_label("Make").select_option("edit")
    page.get_by_text("More options").click()
    page.get_by_label("input", exact=True).set_input_files(tmp_path / "given.png")
    canvas = page.locator("canvas.painter")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    page.mouse.down()
    page.mouse.up()
    shot(page, "painted")
    page.get_by_label("Samples").fill("1")
    page.get_by_role("button", name="Create", exact=True).click()
    page.get_by_role("heading", name="Samples", exact=True).wait_for(timeout=30_000)
    script = """image => { const c = document.createElement("canvas"); c.width = c.height = 8;
        c.getContext("2d").drawImage(image, 0, 0); return [...c.getContext("2d").getImageData(0, 0, 8, 8).data]; }"""
    shot(page, "edited")
    made = np.array(page.locator(".sample img").first.evaluate(script)).reshape(8, 8, 4)[..., :3]
    assert (made[4:] == given[4:]).all()
    assert (made[1:3, 1:3] != given[1:3, 1:3]).any()


def test_text_and_speech_are_created_by_their_own_forms(page):
    page.goto("/#/create/text")
    page.get_by_label("prompt").fill("the cat")
    page.get_by_role("button", name="Create", exact=True).click()
    page.get_by_role("heading", name="Samples", exact=True).wait_for(timeout=30_000)
    assert page.locator(".sample pre").first.inner_text().startswith("the cat")
    page.goto("/#/create/speech")
    page.get_by_role("group", name="speaker").get_by_label("ben").check()
    page.get_by_label("text", exact=True).fill("ah")
    page.get_by_label("Samples").fill("1")
    page.get_by_role("button", name="Create", exact=True).click()
    page.get_by_role("heading", name="Samples", exact=True).wait_for(timeout=60_000)
    assert page.locator(".sample audio").count() == 1
    shot(page, "speech")


def test_samplers_and_steps_are_compared_side_by_side(page):
    page.goto("/#/compare/classes")
    page.get_by_label("Values of the columns").fill("2, 5")
    page.get_by_label("Values of the rows").fill("ddim, heun")
    page.get_by_role("button", name="Compare", exact=True).click()
    page.locator("td img").nth(3).wait_for(timeout=60_000)
    assert page.locator("th[scope=row]").all_inner_texts() == ["ddim", "heun"]
    assert len({image.get_attribute("src") for image in page.locator("td img").all()}) == 4
    shot(page, "compared")


def test_a_run_shows_its_training_and_its_data(page):
    page.goto("/#/runs")
    shot(page, "runs")
    page.get_by_role("link", name="classes", exact=True).click()
    page.locator("svg.curve, p:has-text('No curve yet')").first.wait_for()
    page.locator("img.sheet").wait_for()
    page.get_by_role("button", name="Show the data").click()
    page.locator("pre", has_text="bar").wait_for(timeout=30_000)
    assert "30 readable images" in page.locator("pre").inner_text()
    shot(page, "run")


def test_a_file_is_checked(page, http, tmp_path):
    body = {"model": "classes", "prompt": "disc", "seed": 4, "response_format": "b64_json"}
    image = http.post("/v1/images/generations", json=body).json()["data"][0]["b64_json"]
    (tmp_path / "a.png").write_bytes(base64.b64decode(image))
    page.goto("/#/check")
    page.get_by_label("Drop a .png").set_input_files(tmp_path / "a.png")
    page.get_by_role("heading", name="What the file says").wait_for()
    assert "langevin sample classes" in page.locator("table").inner_text()
    (tmp_path / "b.txt").write_text("nothing")
    page.get_by_label("Drop a .png").set_input_files(tmp_path / "b.txt")
    page.get_by_role("heading", name="No recipe in it").wait_for()
    shot(page, "checked")


def test_a_form_is_filled_by_the_keyboard_alone(page):
    page.goto("/#/create/classes")
    page.get_by_label("disc", exact=True).first.wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('button.main')"):
            break
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Samples", exact=True).wait_for(timeout=30_000)


def require_accessible(page):
    """Axe-core finds nothing serious."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")
    found = axe.Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in serious] == []


VIEWS = (
    "create/classes", "create/speech", "compare/classes", "runs", "runs/classes", "train", "gallery", "jobs", "reviews",
    "check",
)  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious(browser, server, view):
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, base_url=server, bypass_csp=True)  # for axe's own script
        page = context.new_page()
        page.goto(f"/#/{view}")
        page.locator("h1").wait_for()
        require_accessible(page)
        context.close()


def test_clips_are_drawn_between_two_pictures_and_move_on_the_page(browser, tmp_path):
    run = tiny.run_of(clips.captioned(tmp_path / "data"), tmp_path / "run", "data.val_fraction=0.3")
    for name, way in (("a-first", "left"), ("b-last", "up")):
        clips.frames(way, "red")[1].save(tmp_path / f"{name}.png")
    with serving([run], tmp_path / "jobs.db") as (url, _, _):
        context = browser.new_context(base_url=url, viewport={"width": 1280, "height": 900}, bypass_csp=True)
        page = context.new_page()
        page.kind = "light"
        page.goto("/#/create/run")
        page.get_by_text("More options").click()
        page.get_by_label("interpolate", exact=True).set_input_files(
            [tmp_path / "a-first.png", tmp_path / "b-last.png"]
        )
        page.get_by_label("frames", exact=True).fill("6")
        page.get_by_label("Samples").fill("1")
        page.get_by_role("button", name="Create", exact=True).click()
        page.get_by_role("heading", name="Samples", exact=True).wait_for(timeout=30_000)
        shot(page, "clip")
        require_accessible(page)
        source = page.locator(".sample img").first.evaluate(
            """async (image) => { const all = await (await fetch(image.src)).arrayBuffer();
            return btoa(String.fromCharCode(...new Uint8Array(all))); }"""
        )
        frames = [
            np.array(f.convert("RGB")) for f in ImageSequence.Iterator(Image.open(io.BytesIO(base64.b64decode(source))))
        ]
        assert len(frames) == 6
        for frame, name in ((frames[0], "a-first"), (frames[-1], "b-last")):
            assert (frame == np.array(Image.open(tmp_path / f"{name}.png"))).all()
        context.close()


def test_a_run_is_trained_steered_and_stopped_from_the_page(browser, tmp_path):
    pictures.classes(tmp_path / "data" / "shapes")
    (tmp_path / "runs").mkdir()
    with serving([tmp_path / "runs"], tmp_path / "jobs.db", data=tmp_path / "data", grace=30.0) as (url, _, _):
        context = browser.new_context(base_url=url, viewport={"width": 1280, "height": 900}, bypass_csp=True)
        page = context.new_page()
        page.kind = "light"
        page.goto("/#/train")
        page.get_by_label("Train on").select_option("text/books")
        assert page.get_by_label("Data of the recipe").is_visible()
        page.get_by_label("Train on").select_option("shapes")
        assert not page.get_by_label("Data of the recipe").is_visible()
        page.get_by_text("More options").click()
        page.get_by_label("Changes of the recipe").fill("\n".join(TRAINING))
        shot(page, "train")
        require_accessible(page)
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_role("heading", name="train shapes").wait_for()
        page.get_by_text("previews of samples").wait_for(timeout=60_000)
        shot(page, "training")
        require_accessible(page)
        page.get_by_role("link", name="Show the run").click()
        page.get_by_role("button", name="Sample now").wait_for(timeout=30_000)
        before = set((tmp_path / "runs" / "shapes" / "samples").iterdir())
        page.get_by_role("button", name="Sample now").click()
        page.get_by_role("button", name="Save now").click()
        page.get_by_text("after this step").wait_for()
        shot(page, "steered")
        require_accessible(page)
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("button", name="Resume").wait_for(timeout=30_000)
        assert set((tmp_path / "runs" / "shapes" / "samples").iterdir()) - before
        page.get_by_role("button", name="Evaluate").click()
        page.get_by_role("heading", name="evaluate shapes").wait_for()
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("cancelled").wait_for(timeout=60_000)
        page.get_by_role("link", name="Jobs").click()
        page.get_by_role("link", name="train shapes").wait_for()
        context.close()
