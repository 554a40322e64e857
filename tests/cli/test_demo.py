"""The demo trains, draws the table and the animation, evaluates, and says where everything is."""

import json

from PIL import Image

from langevin.cli import demo
from langevin.recipe.read import read_tree


def test_the_demo_makes_what_it_names(tmp_path, told, monkeypatch):
    tiny = read_tree("image/glyphs")["smoke_test"]
    small = [f"{section}.{key}={value}" for section, keys in tiny.items() for key, value in keys.items()]
    whole = demo.step
    monkeypatch.setattr(
        demo, "step", lambda verb, *rest: whole(verb, *rest, *((*small, "sampling.steps=2") if verb == "train" else ()))
    )
    run = tmp_path / "demo"
    _, sampling, _ = demo.commands(str(run))
    rows = sampling.index("--columns") - sampling.index("--rows") - 1
    columns = len(sampling) - sampling.index("--columns") - 1
    status, out, err = told("demo", "--out", run)
    assert status == 0, err
    with Image.open(run / "samples" / "demo.png") as sheet, Image.open(run / "samples" / "demo.gif") as film:
        assert sheet.width > 36 * columns
        assert sheet.height > 36 * rows
        assert film.n_frames == 3  # the noise, and a state after each step
    figures = json.loads((run / "evaluation.json").read_text())
    unseen = figures["retrieval"]["unseen captions of seen words"]
    assert (unseen["count"], unseen["gallery"], len(unseen["missed"])) == (131, 1302, len(unseen["taken_for"]))
    for name in ("demo.png", "demo.gif", "report.html"):
        assert name in out
