"""Requests to a small run: cells that are given, balanced samples, holes that are filled, and files."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from datetime import datetime, time
from decimal import Decimal

import numpy as np
import pytest
from PIL import Image

from langevin.cli import main
from langevin.modalities.modality import RequestContext
from langevin.modalities.table.codec import fit_column
from langevin.modalities.table.columns import Column
from langevin.modalities.table.options import Impute, Sample
from langevin.modalities.table.plans import impute_plan, parsed
from langevin.modalities.table.read import Dialect, read
from langevin.modalities.table.write import Stored, Verbatim, to_csv, to_parquet
from langevin.run.directory import load_model
from langevin.run.plan import Wanted
from langevin.run.train import train_run
from tests import customers

TINY = ("training.steps=150", "training.batch=64", "network.width=64", "network.depth=2", "training.ema_lengths=[0.1]",
        "sampling.ema=0.1", "sampling.steps=12", "training.precision=float32")  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    data = customers.written(folder / "customers.csv", count=600, dialect=Dialect(delimiter=";", newline="\r\n"))
    run = train_run(Wanted(target=str(data), overrides=TINY, out=folder / "run"))
    return run, load_model(run)[0]


def asked(trained, **changes):
    run, model = trained
    return RequestContext(model=model, data=run.open_data, **changes)


def drawn(trained, options, **changes):
    run, model = trained
    return model.run(run.recipe.data.plan(options, asked(trained, **changes)))


def cell(trained, samples, name):
    names = [column.name for column in trained[0].recipe.data.columns]
    return [row[names.index(name)] for row in samples.values]


GIVEN = {
    "plan": "premium",
    "age": "40",
    "joined": "2021-03-04",
    "active": "false",
    "spend": "12.50",
    "visits": "3",
    "city": "Cairo",
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_given_cell_is_exactly_that_in_every_sample(trained, name):
    samples = drawn(trained, Sample(given=(f"{name}={GIVEN[name]}",)), count=8)
    assert cell(trained, samples, name) == [GIVEN[name]] * 8
    assert samples.names == (f"{name}={GIVEN[name]}",) * 8
    assert len(set(samples.values)) == 8


def test_all_cells_may_be_given_and_zero_is_a_value(trained):
    every = tuple(f"{name}={text}" for name, text in (GIVEN | {"spend": "0"}).items())
    (row, again) = drawn(trained, Sample(given=every), count=2).values
    assert row == again == tuple((GIVEN | {"spend": "0.00"}).values())


def test_a_cell_may_be_given_as_missing_where_some_are(trained):
    samples = drawn(trained, Sample(given=("age=",)), count=5)
    assert cell(trained, samples, "age") == [None] * 5
    with pytest.raises(ValueError, match="no cell of 'plan' is missing in the training data"):
        drawn(trained, Sample(given=("plan=",)))


REFUSED = {
    ("plan",): "--given takes COLUMN=VALUE, got 'plan'",
    ("plam=plus",): "there is no column 'plam'; did you mean 'plan'?",
    ("plan=premum",): "'plan' has no value 'premum'; did you mean 'premium'?; it has",
    ("age=old",): "'age' has numbers like",
    ("age=400",): "in the training data, and nothing was learned of 400",
    ("age=40.5",): "in steps of 1",
    ("joined=2021-02-30",): "'joined' has dates like",
    ("joined=1999-01-01",): "nothing was learned of 1999-01-01",
    ("age=40", "age=41"): "'age' is given twice",
}


@pytest.mark.parametrize("given", REFUSED)
def test_what_a_column_cannot_be_is_refused(trained, given):
    with pytest.raises(ValueError, match=re.escape(REFUSED[given])):
        drawn(trained, Sample(given=given))


RANGES = {  # decimals, the smallest and the largest value
    "odd": (0, 17, 5999), "even": (0, 16, 6000), "cents": (2, 0.07, 1234.55), "any": (None, 0.12345674, 2345678.94),
}  # fmt: skip


@pytest.mark.parametrize("name", RANGES)
def test_the_range_that_is_said_is_the_one_that_is_accepted(name):
    decimals, low, high = RANGES[name]
    values = np.linspace(low, high, 3000)
    values = values if decimals is None else np.round(values, decimals)
    column = fit_column(Column(name="x", kind="number", decimals=decimals), values)
    with pytest.raises(ValueError, match="nothing was learned of") as error:
        parsed(column, "-3", "--given")
    least, most = re.match(r".*'x' is from (\S+) to (\S+) in the training data", str(error.value)).groups()
    assert (float(least), float(most)) == pytest.approx((low, high), rel=1e-6)
    for text in (least, most):
        assert parsed(column, text, "--given") == float(text)
    step = 10.0 if decimals is None else 10.0**-decimals
    for beyond in (low - step, high + step):
        with pytest.raises(ValueError, match="nothing was learned of"):
            parsed(column, f"{beyond:.2f}" if decimals != 0 else f"{beyond:.0f}", "--given")


def test_a_category_that_only_held_out_data_have_is_neither_given_nor_drawn(trained):
    run, model = trained
    table = run.recipe.data
    columns = tuple(replace(c, frequencies=(0.5, 0.5, 0.0)) if c.name == "plan" else c for c in table.columns)
    table = replace(table, columns=columns)
    held_out = columns[0].categories[2]
    with pytest.raises(
        ValueError, match=f"'plan' has no value '{held_out}'; it has [a-z]+, [a-z]+ in the training data"
    ):
        model.run(table.plan(Sample(given=(f"plan={held_out}",)), asked(trained)))
    balanced = model.run(table.plan(Sample(balance="plan"), asked(trained, count=6)))
    assert sorted(cell(trained, balanced, "plan")) == sorted(columns[0].categories[:2] * 3)


def test_balanced_samples_have_each_category_equally_often(trained):
    samples = drawn(trained, Sample(balance="plan"), count=9)
    assert sorted(cell(trained, samples, "plan")) == ["basic"] * 3 + ["plus"] * 3 + ["premium"] * 3
    for options in (Sample(balance="age"), Sample(balance="plan", given=("plan=plus",))):
        with pytest.raises(ValueError, match="needs a column of categories that is not given"):
            drawn(trained, options)
    with pytest.raises(ValueError, match="did you mean 'plan'"):
        drawn(trained, Sample(balance="plam"))


# -------------------------------------------------------------------------------------------------------------- filling


def test_filled_tables_keep_every_given_byte(trained, tmp_path):
    """Also quotes that need not be, spaces, other spellings, columns that the run does not know, and their order."""
    text = (
        'note;"age";plan;joined;active;spend;visits;city\r\n'
        '"as it is";;plus;2021-01-05;true;10.50;4;"Berlin"\r\n'
        " x ;+41;basic;2020-07-01;false;;02;Cairo\r\n"
        ';NA;?;;"";n/a;;\r\n'
        "y;50;premium;2022-02-02;true;3.10;1;Dakar\r\n"
    )
    path, out = tmp_path / "holes.csv", tmp_path / "filled.csv"
    path.write_bytes(text.encode())
    run = trained[0]
    assert main(["impute", str(run.path), str(path), "--out", str(out)]) == 0
    given, filled = (
        list(csv.reader(io.StringIO(t, newline=""), delimiter=";")) for t in (text, out.read_bytes().decode())
    )
    assert filled[0] == given[0]
    for row, (before, after) in enumerate(zip(given[1:], filled[1:], strict=True)):
        for column, (a, b) in enumerate(zip(before, after, strict=True)):
            if a.strip() not in ("", "NA", "?", "n/a") or column == 0:
                assert a == b
            else:
                assert b.strip() not in ("", "NA", "?", "n/a"), (row, column)
    raw = out.read_bytes().decode()
    assert '"as it is"' in raw
    assert " x ;+41;basic;2020-07-01;false;" in raw
    assert ";02;Cairo\r\n" in raw
    assert "y;50;premium;2022-02-02;true;3.10;1;Dakar\r\n" in raw
    assert raw.startswith(text.partition("\n")[0])
    for form, first in ((".tsv", 'note\t"age"\tplan\t'), (".csv", 'sep=;\r\nimputation;note;"age";plan;')):
        path.write_bytes(b"sep=;\r\n" * (form == ".csv") + text.encode())
        out = tmp_path / f"several{form}"
        more = ["--imputations", "2"] if form == ".csv" else []
        assert main(["impute", str(run.path), str(path), "--out", str(out), *more]) == 0
        assert out.read_bytes().decode().startswith(first)


def test_imputations_differ_where_holes_are_and_say_by_how_much(trained, tmp_path):
    path = customers.written(tmp_path / "holes.csv", count=60, seed=5, dialect=Dialect(delimiter=";"))
    said = []
    samples = drawn(trained, Impute(file=str(path), imputations=4), say=said.append)
    cells = read(path)
    assert len(samples) == 4 * 60
    assert samples.modality.columns[0].name == "imputation"
    tables = np.array([[str(c) for c in row] for row in samples.values]).reshape(4, 60, -1)
    assert [tables[k, 0, 0] for k in range(4)] == ["1", "2", "3", "4"]
    differs = (tables[:, :, 1:] != tables[:1, :, 1:]).any(0)
    holes = np.array([[c is None for c in column] for column in cells.columns]).T
    assert not differs[~holes].any()
    assert differs[holes].mean() > 0.5
    assert any(line.startswith("Spread of the imputations: 'age' ") for line in said)


def test_a_table_without_holes_stays_and_one_of_one_sample_is_filled(trained, tmp_path):
    path = customers.written(tmp_path / "whole.csv", count=30, holes=False, dialect=Dialect(delimiter=";"))
    said = []
    samples = drawn(trained, Impute(file=str(path)), say=said.append)
    assert samples.text().splitlines() == path.read_text().splitlines()
    assert any("has no holes: nothing is filled" in line for line in said)
    path.write_text("plan;age;joined;active;spend;visits;city\nplus;;2021-01-01;true;5.00;;Cairo\n")
    (row,) = drawn(trained, Impute(file=str(path))).values
    assert row[0] == "plus"
    assert all(row)


def test_cells_that_the_run_does_not_know_stay_and_are_named(trained, tmp_path):
    path = tmp_path / "strange.csv"
    path.write_text("plan;age;joined;active;spend;visits;city\ngold;many;2021-01-01;true;;3;Oslo\n")
    said = []
    (row,) = drawn(trained, Impute(file=str(path)), say=said.append).values
    assert row[:4] == ("gold", "many", "2021-01-01", "true")
    assert row[6] == "Oslo"
    assert row[4]
    (line,) = [line for line in said if line.startswith("'plan'")]
    assert (
        "1 cells are no category that the run knows; they stay, and nothing follows from them: 'gold' in line 2" in line
    )


@pytest.mark.parametrize("imputations", [1, 2])
def test_filled_parquet_tables_keep_every_given_cell_and_type(trained, tmp_path, imputations):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    a, text = pyarrow.array, pyarrow.string()
    given = pyarrow.table({
        "id": a([b"\x00\xff", None, b"z"]), "parts": a([[1, 2], [], None]), "point": a([{"x": 1.5}, None, {"x": None}]),
        "plan": a(["plus", None, "gold"], text).dictionary_encode(), "age": a([41.5, math.nan, None], pyarrow.float32()),
        "joined": a([1_600_000_000_123_456_789, None, 1_609_459_200_000_000_001], pyarrow.timestamp("ns", "UTC")),
        "active": a([True, None, False]), "spend": a([Decimal("12.50"), None, Decimal("0.10")], pyarrow.decimal128(9, 2)),
        "visits": a([None, 3, 1], pyarrow.int16()), "city": a(["Cairo", None, " Oslo "], pyarrow.large_string()),
        "ratio": a([math.nan, None, 0.1]), "day": a([86_400_000, None, 0], pyarrow.date64()), "at": [time(1), None, None],
    })  # fmt: skip
    path, out = tmp_path / "given.parquet", tmp_path / "filled.parquet"
    parquet.write_table(given, path)
    more = ["--imputations", str(imputations)] if imputations > 1 else []
    assert main(["impute", str(trained[0].path), str(path), "--out", str(out), *more]) == 0
    whole, given = parquet.read_table(out), parquet.read_table(path)
    assert whole.num_rows == imputations * given.num_rows
    assert whole.column_names == ["imputation"] * (imputations > 1) + given.column_names
    known = {column.name for column in trained[0].recipe.data.columns}
    texts, answers = (dict(zip(cells.names, cells.columns)) for cells in (read(path), read(out)))
    for field in given.schema:
        name = field.name
        assert whole.column(name).type == field.type
        for i, after in enumerate(whole.column(name)):
            before = given.column(name)[i % 3]
            if name in known and texts[name][i % 3] is None:  # also a NaN
                assert answers[name][i] is not None
            else:
                assert before.equals(after) or str(before) == str(after) == "nan"


def test_drawn_times_of_day_are_written_in_their_type(tmp_path):
    """Arrow has no way from texts to this type, but the table holds the same values."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    hours, path = [time(8, 30), None, time(17), time(8, 30)], tmp_path / "given.parquet"
    parquet.write_table(pyarrow.table({"at": hours}), path)
    cells = read(path, raw=True)
    samples = [
        Stored(row, cells, at) for at, row in enumerate([("08:30:00",), ("17:00:00",), ("17:00:00",), ("08:30:00",)])
    ]
    out = parquet.read_table(io.BytesIO(to_parquet([Column(name="at", kind="category")], samples, {})))
    assert out.column("at").to_pylist() == [time(8, 30), time(17), time(17), time(8, 30)]


def test_cells_that_a_parquet_column_cannot_hold_stay_as_texts(trained, tmp_path):
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path, out = tmp_path / "strange.csv", tmp_path / "filled.parquet"
    path.write_text("plan;age;joined;active;spend;visits;city\nplus;many;2023-02-30;perhaps;1.50;99999999999999999999;\n"
                    "basic;30;2021-03-04;true;2.00;3;Cairo\n")  # fmt: skip
    assert main(["impute", str(trained[0].path), str(path), "--out", str(out)]) == 0
    held = parquet.read_table(out).to_pydict()
    assert held.pop("city")[0]
    assert held == {
        "plan": ["plus", "basic"], "age": ["many", "30"], "joined": ["2023-02-30", "2021-03-04"], "spend": [1.5, 2.0],
        "active": ["perhaps", "true"], "visits": ["99999999999999999999", "3"],
    }  # fmt: skip
    path.write_text("plan;age;joined;active;spend;visits;city\nplus;;2023-02-03 10:00:00.25;true;;;\n")
    assert main(["impute", str(trained[0].path), str(path), "--out", str(tmp_path / "second.parquet")]) == 0
    (moment,) = parquet.read_table(tmp_path / "second.parquet").column("joined").to_pylist()
    assert moment == datetime(2023, 2, 3, 10, 0, 0, 250_000)


@pytest.mark.parametrize("more", [(), ("--imputations", "2")])
def test_a_filled_table_is_a_picture_of_the_columns_that_the_run_knows(trained, tmp_path, more):
    path, pictures = tmp_path / "holes.csv", []
    for note, x in (("note;", "known to nobody;"), ("", "")):
        path.write_text(f"{note}plan;age;joined;active;spend;visits;city\n{x}gold;many;2023-02-30;true;;3;\n"
                        f"{x}plus;30;2021-03-04;true;2;;\n")  # fmt: skip
        out = tmp_path / f"filled{note}.png"
        assert main(["impute", str(trained[0].path), str(path), "--out", str(out), *more]) == 0
        pictures.append(np.asarray(Image.open(out)))
    assert np.array_equal(*pictures)


def test_files_that_cannot_be_filled_are_refused(trained, tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("plan;age\nplus;3\n")
    with pytest.raises(
        ValueError, match="has no column 'joined', 'active', 'spend', and 2 more, which the run generates"
    ):
        drawn(trained, Impute(file=str(path)))
    customers.written(path, count=30, dialect=Dialect(delimiter=";"))
    path.write_text(path.read_text() + "1;2\n")
    with pytest.raises(ValueError, match="line 32 has 2 cells, and 7 columns have names: mend"):
        drawn(trained, Impute(file=str(path)))
    with pytest.raises(ValueError, match="--imputations must be 1 to 1000, got 0"):
        impute_plan(trained[0].recipe.data, Impute(file=str(path), imputations=0), asked(trained))


# ---------------------------------------------------------------------------------------------------------------- files


def test_samples_are_written_in_the_dialect_of_the_data(trained, tmp_path):
    run, out = trained[0], tmp_path / "new.csv"
    assert main(["sample", str(run.path), "--count", "3", "--out", str(out)]) == 0
    content = out.read_bytes().decode()
    assert content.count("\r\n") == 4
    assert content.startswith("plan;age;joined;active;spend;visits;city\r\n")
    for row in read(out).columns[4]:
        assert row is None or re.fullmatch(r"\d+\.\d\d", row)  # cents, as all are written


def test_samples_are_text_on_standard_output_and_json_with_types(trained, tmp_path, capsys):
    run, out = trained[0], tmp_path / "new.json"
    assert main(["sample", str(run.path), "--count", "2", "--given", "active=true", "age=40"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "plan;age;joined;active;spend;visits;city"
    assert len(lines) == 3
    assert main(["sample", str(run.path), "--count", "2", "--given", "active=true", "age=40", "--out", str(out)]) == 0
    held = json.loads(out.read_text())
    assert [(one["active"], one["age"]) for one in held] == [(True, 40)] * 2
    assert all(isinstance(one["visits"], int) for one in held)


def test_a_cell_is_quoted_only_if_it_has_to_be():
    rows = [("a,b", 'say "x"', " y", "z", None), (Verbatim('"kept"', "kept"), "line\nbreak", "", "1", "2")]
    text = to_csv(["n,1", "b", "c", "d", "e"], rows, ["", "", "", "", "NA"], Dialect())
    expected = '"n,1",b,c,d,e\n"a,b","say ""x"""," y",z,NA\n"kept","line\nbreak",,1,2\n'
    assert text == expected
    assert to_csv(["a"], [(None,), ("x",)], [""], Dialect()) == 'a\n""\nx\n'


def test_a_run_goes_on_from_the_weights_of_another_of_the_same_table_alone(trained, tmp_path):
    run = trained[0]
    more = (*TINY, "training.steps=2", f"init_from={run.path}")
    again = train_run(Wanted(target=run.recipe.data.path, overrides=more, out=tmp_path / "again"))
    assert again.recipe.data.columns == run.recipe.data.columns
    other = customers.written(tmp_path / "other.csv", count=100, holes=False)
    with pytest.raises(ValueError, match="is of another table"):
        train_run(Wanted(target=str(other), overrides=more, out=tmp_path / "bad"))
