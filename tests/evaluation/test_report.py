import io
import json
import re
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from langevin.evaluation.report import (
    Curves,
    Facts,
    Line,
    MetricRow,
    Metrics,
    Picture,
    Pictures,
    Report,
    Source,
    grouped,
    number,
)
from langevin.evaluation.statistics import mean_interval

HOSTILE = '<script>alert("x")</script><img src=https://evil.example/a.png onerror=x> & \'"$ü'
SOURCE = Source(samples={HOSTILE: 1000}, seeds=(0, 1, 2), command=f"langevin evaluate {HOSTILE}")


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def report() -> Report:
    row = MetricRow(
        metric=HOSTILE,
        group=HOSTILE,
        generated=mean_interval([1.0, 2.0, 3.0]),
        values=(1.0, 2.0, 3.0),
        floor=float("nan"),
        copycat=0.0,
        better="lower",
        meaning=HOSTILE,
    )
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    line = Line(label=HOSTILE, x=[1, 2, 3], y=[0.1, 0.2, 0.4], error=[0.1, 0.1, 0.1])
    return Report(
        title=HOSTILE,
        summary=HOSTILE,
        sections=[
            Facts(
                heading=HOSTILE,
                rows={HOSTILE: HOSTILE, "parameters": 12345, "loss": 0.12345678},
                source=SOURCE,
                note=HOSTILE,
            ),
            Metrics(heading=HOSTILE, rows=[row], source=SOURCE),
            Pictures(heading=HOSTILE, pictures=[Picture(image=image, caption=HOSTILE)], note=HOSTILE),
            Curves(heading=HOSTILE, lines=[line, line], x_label=HOSTILE, y_label="loss", caption=HOSTILE, x_log=True),
        ],
    )


def test_page_escapes_hostile_text_and_asks_nothing_of_the_network(tmp_path):
    path = report().write(tmp_path / "run")
    text = path.read_text(encoding="utf-8")
    parser = Tags()
    parser.feed(text)
    names = {tag for tag, _ in parser.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for _, attributes in parser.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "data:image/png;base64,").startswith("data:image/png;base64,")
    assert not re.search(r"url\(|@import", text)
    assert "default-src 'none'" in text.replace("&#x27;", "'")
    assert HOSTILE in "".join(parser.text)
    assert "prefers-color-scheme: dark" in text


def test_json_holds_the_same_figures(tmp_path):
    path = report().write(tmp_path)
    data = json.loads((tmp_path / "report.json").read_text())
    facts, metrics, pictures, curves = data["sections"]
    assert facts["rows"]["parameters"] == 12345
    assert metrics["rows"][0]["generated"]["estimate"] == 2
    assert metrics["rows"][0]["floor"] is None
    assert metrics["samples"] == {HOSTILE: 1000}
    assert metrics["seeds"] == [0, 1, 2]
    assert pictures["pictures"][0]["size"] == [8, 8]
    assert curves["lines"][0]["y"] == [0.1, 0.2, 0.4]
    text = path.read_text()
    assert "2 ± 2.5" in text
    assert "12,345" in text
    assert text.count("Command: <code>") == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_write_is_whole_or_nothing(tmp_path, monkeypatch):
    path = report().write(tmp_path)
    before = path.read_bytes()

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        report().write(tmp_path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (3, 5, 7), (4, 5, 7)])
def test_pictures_keep_their_pixels(shape):
    image = torch.arange(torch.tensor(shape).prod().item()).reshape(shape).to(torch.uint8)
    png = Picture(image=image, caption="").png()
    assert Image.open(io.BytesIO(png)).size == (7, 5)
    assert Picture(image=png, caption="").png() == png


def test_errors_and_numbers():
    with pytest.raises(ValueError, match="uint8"):
        Picture(image=torch.zeros(3, 4, 4), caption="a").png()
    with pytest.raises(ValueError, match="not a PNG"):
        Picture(image=b"GIF", caption="a").png()
    with pytest.raises(ValueError, match="as many y"):
        Line(label="a", x=[1], y=[])
    assert [number(v) for v in (None, float("inf"), True, 1600, 0.000123456, 123456.7, "a")] == [
        "–", "–", "yes", "1,600", "0.0001235", "123,457", "a",
    ]  # fmt: skip


def test_the_table_of_metrics_stands_in_groups():
    rows = [
        MetricRow(metric=name, group=group, generated=mean_interval([value]), better="", meaning="")
        for name, group, value in (
            ("FD", "pixels", 1.0),
            ("loss", "", 2.0),
            ("FD", "words", 3.0),
            ("C_T", "pixels", 4.0),
        )
    ]
    assert {group: [row.metric for row in found] for group, found in grouped(rows).items()} == {
        "": ["loss"], "pixels": ["FD", "C_T"], "words": ["FD"],
    }  # fmt: skip
    assert list(grouped(rows)) == ["", "pixels", "words"]
    assert [row.name for row in rows] == ["FD, pixels", "loss", "FD, words", "C_T, pixels"]
    html = Metrics(heading="", rows=rows, source=SOURCE).html()
    heads = re.findall(r'<th scope="row(?:group)?"[^>]*>([^<]*)</th>', html)
    assert heads == ["loss", "pixels", "FD", "C_T", "words", "FD"]
    assert html.count("<tbody>") == 3
