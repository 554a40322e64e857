"""`intervene` on the command line: pictures with classes, texts, and tables."""

import json

from tests import pictures, tiny


def test_effects_are_told_and_written(tmp_path, told):
    run = tiny.run_of(pictures.classes(tmp_path / "data", count=60), tmp_path / "run", "data.val_fraction=0.3")
    options = ("--count", 8, "--bands", 2, "--steps", 4, "--measure", "brightness")
    status, out, err = told("intervene", run, *options)
    assert status == 0, err
    folder = run / "explanations" / "interventions-seed0"
    assert {file.name for file in folder.iterdir()} == {
        "interventions.json",
        "samples.png",
        "report.html",
        "report.json",
    }
    effects = json.loads((folder / "interventions.json").read_text())["effects"]
    assert [e["what"] for e in effects] == ["another class"] * 3 + ["no class"] * 3 + ["fresh noise"] * 2
    assert all(e["distance"]["estimate"] >= 0 and e["rating"]["low"] <= e["rating"]["high"] for e in effects)
    told_as = json.loads((folder / "interventions.json").read_text())["command"]
    assert all(word in told_as for word in ("--count 8", "--steps 4", "--measure brightness"))
    assert "another class" in out
    assert "rise of brightness" in out
    assert told("intervene", run, *options)[0] == 0  # beside the first
    assert (run / "explanations" / "interventions-seed0-2").is_dir()
