"""Reading tables: dialects of CSV, Parquet, and files that cannot be read."""

import math
import re

import numpy as np
import pytest

from langevin.cli import main
from langevin.modalities.table.columns import seconds_of, text_of
from langevin.modalities.table.detect import detect
from langevin.modalities.table.modality import Table
from langevin.modalities.table.read import Dialect, guess_delimiter, raw_records, read
from langevin.modalities.table.write import to_csv, typed
from langevin.recipe.detect import chosen
from tests import customers


def file(tmp_path, text, name="data.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows(count, form="{i},{j}\n"):
    return "".join(form.format(i=i, j=i * i % 97) for i in range(count))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [False, True])
def test_every_dialect_is_read_as_it_was_written(tmp_path, delimiter, newline, bom):
    dialect = Dialect(delimiter=delimiter, newline=newline, bom=bom)
    path = customers.written(tmp_path / "a.csv", count=60, dialect=dialect)
    plain = read(customers.written(tmp_path / "b.csv", count=60))
    found = read(path)
    assert found.dialect == dialect
    assert (found.names, found.columns) == (plain.names, plain.columns)
    assert detect(path)[0] == 1


def test_quotes_hold_delimiters_quotes_and_line_breaks(tmp_path):
    path = file(tmp_path, 'a,"b ""x"", y"\r\n"one, two",1\r\n"three\nfour",2\r\n"""",3\r\n')
    found = read(path, raw=True)
    assert found.names == ("a", 'b "x", y')
    assert found.columns == (["one, two", "three\nfour", '"'], ["1", "2", "3"])
    assert found.raw == [['"one, two"', "1"], ['"three\nfour"', "2"], ['""""', "3"]]
    assert found.lines == [2, 3, 5]


@pytest.mark.parametrize("first", ["sep=;", '"SEP=;"', "sep=;;;"])
def test_the_line_that_says_the_delimiter_to_excel_is_none_of_names(tmp_path, first):
    path = file(tmp_path, f"\ufeff{first}\r\na;b;c\r\n1,5;x;2\r\n2,5;y\r\n" + "3,5;z;4\r\n" * 20)
    found = read(path)
    assert (found.names, found.columns[0][:2], found.lines[:2]) == (("a", "b", "c"), ["1,5", "3,5"], [3, 5])
    assert found.broken[0][0] == "line 4"
    assert (found.dialect.delimiter, found.dialect.sep) == (";", True)
    assert detect(path) == (1.0, "a table of 3 columns, separated by semicolons")
    assert (
        to_csv(found.names, list(zip(*found.columns))[:1], found.written, found.dialect)
        == "sep=;\r\na;b;c\r\n1,5;x;2\r\n"
    )
    assert read(file(tmp_path, "sep=,\na;b,c\n1;2,3\n")).names == ("a;b", "c")


def test_raw_cells_joined_are_the_file():
    text = 'a;"b;c";\nd;;" e"\n;;\n'
    assert "\n".join(";".join(record) for record in raw_records(text, ";")) + "\n" == text


def test_the_delimiter_is_the_one_that_makes_equal_records():
    assert guess_delimiter("a;b\n1,5;2,5\n3,5;4,5\n") == ";"
    assert guess_delimiter("a,b\n1;5,2;5\n3;5,4;5\n") == ","
    assert guess_delimiter("name\n1\n2\n") == ","


def test_texts_that_mean_nothing_are_missing_and_are_written_as_they_were(tmp_path):
    found = read(file(tmp_path, "a,b,c\n1,NA,x\n?,,y\n3,NA,null\n"))
    assert found.columns == (["1", None, "3"], [None, None, None], ["x", "y", None])
    assert found.written == ("?", "NA", "null")
    assert read(file(tmp_path, "a,b\n1,-\n2,x\n"), missing=("-",)).columns[1] == [None, "x"]


def test_a_file_without_names_has_numbered_columns(tmp_path):
    path = file(tmp_path, "39, State-gov, 77516\n50, Private, 83311\n")
    found = read(path)
    assert found.names == ("column_1", "column_2", "column_3")
    assert found.columns[1] == ["State-gov", "Private"]
    assert "no line of names" in found.remarks[0]
    assert detect(path)[0] == 0.9
    assert read(file(tmp_path, ",a\n0,x\n1,y\n")).names == ("column_1", "a")


def test_other_encodings_are_read_and_said(tmp_path):
    latin = read(file(tmp_path, "näme,b\nä,1\n".encode("cp1252")))
    assert latin.names == ("näme", "b")
    assert re.match("Line 1 is not UTF-8, so .* Windows-1252, and is written as UTF-8", latin.remarks[0])
    assert read(file(tmp_path, "a,b\nü,1\n".encode("utf-16"))).columns[0] == ["ü"]


def test_a_parquet_table_keeps_its_types(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    count = 40
    table = pyarrow.table({
        "i": pyarrow.array(range(0, 7 * count, 7), pyarrow.int16()), "b": [k % 3 == 0 for k in range(count)],
        "f": [math.nan if k == 3 else k / 8 for k in range(count)],
        "d": pyarrow.array([18262 + k for k in range(count)], pyarrow.int32()).cast(pyarrow.date32()),
        "s": pyarrow.array(["x", None] * (count // 2)).dictionary_encode(),
        "t": pyarrow.array([10**9 + 3600 * k * k for k in range(count)], pyarrow.timestamp("s")),
        "l": [[1, 2]] * count,
    })  # fmt: skip
    path = tmp_path / "t.parquet"
    parquet.write_table(table, path)
    modality = Table(path=str(path))
    train, val = modality.open()
    kinds = {column.name: (column.kind, column.form) for column in train.columns}
    assert kinds == {
        "i": ("number", "integer"), "f": ("number", "float"), "b": ("category", "boolean"), "d": ("date", "date"),
        "s": ("category", "text"), "t": ("date", "datetime"), "l": ("ignored", "text"),
    }  # fmt: skip
    assert len(train) + len(val) == count
    fitted = modality.fitted(train)
    from langevin.modalities.modality import Samples

    out = tmp_path / "out.parquet"
    fitted.save(Samples(modality=fitted, values=fitted.rows(train.values)), out)
    written = parquet.read_table(out)
    table = parquet.read_table(path)  # as the format has its types
    assert {name: str(written.schema.field(name).type) for name in written.column_names} == {
        name: str(table.schema.field(name).type).replace("dictionary<values=string, indices=int32, ordered=0>", "string")
        for name in table.column_names if name != "l"
    }  # fmt: skip
    assert set(written.column("t").to_pylist()) <= set(table.column("t").to_pylist())


# --------------------------------------------------------------------------------------------------------------- bad input

UNREADABLE = {
    "empty": ("", "is empty: a table has a line of names"),
    "blank": (" \n\n", "is empty"),
    "byte order mark alone": (b"\xef\xbb\xbf\n", "is empty"),
    "byte order mark of UTF-16 alone": (b"\xff\xfe", "is empty"),
    "delimiter alone": ("sep=;\r\n", "is empty"),
    "header only": ("a,b\n", "has a line of names only: a table has a line for each sample"),
    "duplicate names": ("a,b,a\n1,2,3\n", "columns 1 and 3 have the same name 'a': rename one"),
    "ragged": ("a,b\n" + "1,2\n3\n4,5,6\n" * 5, "do not fit its 2 names, more than one in ten: line 3 has 1 cells"),
    "open quote": ('a,b\n1,2\n3,"4\n5,6\n', "the record that begins in line 3 cannot be read"),
    "zero bytes": (b"a,b\n\x00\x01,2\n", "holds zero bytes, so it is no text"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_is_no_table_is_refused_with_the_place(tmp_path, name):
    content, said = UNREADABLE[name]
    with pytest.raises(ValueError, match=said):
        read(file(tmp_path, content))


def test_a_few_ragged_lines_are_named_and_left_out(tmp_path):
    found = read(file(tmp_path, "a,b\n" + rows(40) + "1,2,3\n"))
    assert len(found) == 40
    assert found.broken == (("line 42", "has 3 cells, and 2 columns have names"),)


def test_paths_that_are_no_table_are_refused(tmp_path):
    file(tmp_path, "a,b\n1,2\n", "table.csv")
    with pytest.raises(ValueError, match=r"There is no table .*tabel\.csv; did you mean .*table\.csv"):
        read(tmp_path / "tabel.csv")
    with pytest.raises(ValueError, match=r"read from a \.csv, \.tsv, \.parquet file"):
        read(file(tmp_path, "x", "a.xlsx"))
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        read(file(tmp_path, b"PAR1 not really PAR1", "a.parquet"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="is no file"):
        read(tmp_path / "folder.csv")
    assert detect(tmp_path / "folder.csv") is None


def column(tmp_path, cells, name="x", **options):
    """The type of a column beside one of numbers, and what is said of it."""
    text = f"{name},other\n" + "".join(f"{cell},{i * i % 97}\n" for i, cell in enumerate(cells))
    table = Table(path=str(file(tmp_path, text)), **options)
    train, _ = table.open()
    return next(c for c in train.columns if c.name == name), train.notes.lines(), table


def test_columns_that_cannot_be_learned_are_left_out_with_a_reason(tmp_path):
    found, lines, _ = column(tmp_path, ["same"] * 50)
    assert (found.kind, found.categories) == ("constant", ("same",))
    assert any("Constant, written back: 'x' (it is always same)" in line for line in lines)
    found, lines, _ = column(tmp_path, ["", "NA"] * 25)
    assert found.kind == "empty"
    assert any("'x' (no cell has a value)" in line for line in lines)
    found, lines, _ = column(tmp_path, [f"name {i}" for i in range(50)])
    assert found.kind == "ignored"
    assert any("100% of its values are unique: identifiers, or free text" in line for line in lines)
    found, lines, _ = column(tmp_path, range(100, 150))
    assert any("it numbers the rows" in line for line in lines)


def test_many_categories_keep_the_frequent_ones_and_one_for_the_others(tmp_path):
    cells = [f"c{i % 10_000}" if i % 3 else "often" for i in range(30_000)]
    found, lines, _ = column(tmp_path, cells)
    assert len(found.categories) == 256
    assert found.categories[0] == "often"
    assert found.categories[-1] == "(other)"
    assert any("'x' has many values: its 9,746 rarest values are one, '(other)'" in line for line in lines)
    assert found.code("c9999") == found.code("never seen") == 255


def test_a_category_that_is_seen_once_is_one_and_is_named(tmp_path):
    found, _, table = column(tmp_path, ["a", "b"] * 30 + ["rare"])
    assert found.categories == ("a", "b", "rare")
    assert any("has 1 values that occur once: rare" in line for line in table.inspect().lines())


def test_cells_of_another_type_are_named_and_count_as_missing(tmp_path):
    found, lines, _ = column(tmp_path, [*(str(i * 1.5) for i in range(60)), "many", "inf"])
    assert found.kind == "number"
    assert found.holes
    assert any(
        "2 of its cells are none, and count as missing: 'many' in line 62, 'inf' in line 63" in line for line in lines
    )
    found, _, _ = column(tmp_path, ["1", "2", "many", "few"] * 20)
    assert found.kind == "category"  # too many to be mistakes


def test_a_date_out_of_range_is_named_and_counts_as_missing(tmp_path):
    found, lines, _ = column(tmp_path, [*(f"2023-01-{1 + i % 28:02d}" for i in range(50)), "2023-02-30"])
    assert (found.kind, found.form, found.holes) == ("date", "date", True)
    assert any("is a date, and 1 of its cells are none" in line and "'2023-02-30' in line 52" in line for line in lines)


def test_a_date_before_the_first_year_is_named_and_counts_as_missing(tmp_path):
    found, lines, table = column(
        tmp_path, [*(f"2023-01-{1 + i % 28:02d}" for i in range(50)), "0001-01-01T00:00:00+02:00"]
    )
    assert found.kind == "date"
    assert any("'0001-01-01T00:00:00+02:00' in line 52" in line for line in lines)
    assert any("'x' is a date" in line for line in table.inspect().lines())


@pytest.mark.parametrize("form", ["%d.%m.%Y", "%m/%d/%Y %H:%M", "%Y/%m/%d", "%Y-%m-%d %H:%M:%S", "iso"])
def test_dates_of_the_first_millennium_are_read_back(form):
    seconds = seconds_of("0079-08-24T13:00:00", "iso") if "H" in form else seconds_of("0079-08-24", "iso")
    assert seconds_of(text_of(seconds, form), form) == seconds


@pytest.mark.parametrize("time", ["", " 08:30", " 08:30:00"])
def test_how_months_and_days_are_told_apart_is_said(tmp_path, time):
    _, lines, _ = column(tmp_path, [f"05/{1 + i % 12:02d}/2023{time}" for i in range(50)])
    assert any("'x' is read as %m/%d/%Y" in line for line in lines)


DATES = {
    "2023-05-17": "iso", "2023-05-17T08:30:00": "%Y-%m-%dT%H:%M:%S", "2023-05-17 08:30:00": "%Y-%m-%d %H:%M:%S",
    "17.05.2023": "%d.%m.%Y", "05/17/2023": "%m/%d/%Y", "17/05/2023": "%d/%m/%Y", "2023/05/17": "%Y/%m/%d",
}  # fmt: skip


@pytest.mark.parametrize("text", DATES)
def test_dates_are_written_as_they_are_read(tmp_path, text):
    other = text.replace("17", "03")
    found, _, _ = column(tmp_path, [text, other] * 20)
    assert (found.kind, found.format) == ("date", DATES[text])
    assert found.text(found.number(text)) == text


NUMBERS = {
    ("1", "2", "30"): ("integer", 0), ("1.5", "2.25", "-3"): ("float", 2), ("1.50", "2.25"): ("float", 2),
    ("1e-7", "2.5", "3"): ("float", None), ("007", "012"): ("text", None), ("1", "0"): ("integer", None),
}  # fmt: skip


@pytest.mark.parametrize("cells", NUMBERS)
def test_numbers_keep_their_form(tmp_path, cells):
    more = [str(10 * k) for k in range(12)] if NUMBERS[cells] == ("integer", 0) else []  # more than a few whole numbers
    found, _, _ = column(tmp_path, [*more, *(cells * 12)])
    assert (found.form, found.decimals) == NUMBERS[cells]
    if found.kind == "number" and found.decimals is not None:
        assert [found.text(found.number(cell)) for cell in cells] == list(cells)


def test_decimal_commas_stay_commas(tmp_path):
    table = Table(path=str(customers.numbers(tmp_path)))
    train, _ = table.open()
    assert all(column.comma and column.kind == "number" for column in train.columns)
    row = table.fitted(train).rows(train.values)[0]
    assert all("," in cell and "." not in cell for cell in row)
    assert ";".join(row) in (tmp_path / "numbers.csv").read_text()


THOUSANDS = {  # cells, their values, and what is said
    ('"45,000"', "950", '"1,234,567"'): ([45000, 950, 1234567], "between thousands: 45,000 is 45000"),
    ('"45,000.50"', "950.25", '"1,234.00"'): ([45000.5, 950.25, 1234], "between thousands: 45,000.50 is 45000.5"),
    ('"-45,000"', '"12,500"'): ([-45000, 12500], "between thousands: -45,000 is -45000"),
    ('"0,125"', '"45,000"'): ([0.125, 45], None),
    ('"45,00"', '"45,000"'): ([45, 45], None),
}


@pytest.mark.parametrize("cells", THOUSANDS)
def test_commas_between_thousands_are_no_decimal_commas(tmp_path, cells):
    expected, said = THOUSANDS[cells]
    found, lines, table = column(tmp_path, cells * 15, kinds={"x": "number"})
    train, val = table.open()
    assert {*train.values[0], *val.values[0]} == {*expected}
    assert [line for line in lines if "commas" in line] == (
        [] if said is None else [f"'x' is read with commas {said}: write its numbers without commas if that is wrong."]
    )
    if len(set(expected)) == len(cells):
        assert [float(found.standard(found.text(value))) for value in expected] == expected
        assert [typed(found, cell.strip('"')) for cell in cells] == expected


def test_commas_before_three_digits_are_decimal_ones_where_semicolons_leave_them_free(tmp_path):
    lines = [f"2,{100 + 7 * i};{i % 7 + 0.5};12,{i + 100};1,{i + 100}\n" for i in range(60)]
    table = Table(path=str(file(tmp_path, "a;b;c;d\n" + "".join(lines) + "2,955;1.5;950;1,000,000\n")))
    train, _ = table.open()
    assert [(c.comma, c.grouped) for c in train.columns] == [
        (True, False),
        (False, False),
        (False, True),
        (False, True),
    ]
    assert any("'a' is read with commas for decimals: 2,100 is 2.1" in line for line in train.notes.lines())


def test_what_the_user_says_of_a_column_wins_if_it_is_true(tmp_path):
    found, _, table = column(tmp_path, range(0, 100, 2), kinds={"x": "category"})
    assert (found.kind, found.form) == ("category", "integer")
    assert column(tmp_path, [1, 2] * 20, kinds={"x": "number"})[0].kind == "number"
    assert column(tmp_path, [1, 2] * 20, kinds={"x": "ignored"})[0].kind == "ignored"
    with pytest.raises(ValueError, match="says that 'x' is a number, and it holds cells like 'a', 'b'"):
        column(tmp_path, ["a", "b"] * 20, kinds={"x": "number"})
    with pytest.raises(ValueError, match=r"names 'y', which .* has not"):
        Table(path=table.path, kinds={"y": "number"}).open()


def test_too_little_to_learn_from_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has 1 sample, and training needs 20 or more"):
        Table(path=str(file(tmp_path, "a,b\n1,x\n"))).open()
    with pytest.raises(ValueError, match=r"no column can be learned \(a: it is always 1; b: no cell has a value\)"):
        Table(path=str(file(tmp_path, "a,b\n" + "1,\n" * 30))).open()


def test_copies_stay_in_one_part(tmp_path):
    path = file(tmp_path, "a,b\n" + rows(40) * 3)
    train, val = Table(path=str(path)).open()
    assert len(train) + len(val) == 120
    seen = [set(zip(*(part.values[i].tolist() for i in range(2)))) for part in (train, val)]
    assert not seen[0] & seen[1]


TITANIC = {  # class, sex, age, survived: passengers
    "1MCY": 5, "2MCY": 11, "3MCN": 35, "3MCY": 13, "1FCY": 1, "2FCY": 13, "3FCN": 17, "3FCY": 14, "1MAN": 118, "2MAN": 154,
    "3MAN": 387, "cMAN": 670, "1MAY": 57, "2MAY": 14, "3MAY": 75, "cMAY": 192, "1FAN": 4, "2FAN": 13, "3FAN": 89, "cFAN": 3,
    "1FAY": 140, "2FAY": 80, "3FAY": 76, "cFAY": 20,
}  # fmt: skip
FEW_DIFFERENT = {
    "titanic": TITANIC, "nearly constant": {"aaaa": 97, "abab": 3}, "two": {"aaaa": 17, "baaa": 3},
    "eight booleans": {f"{i:08b}": 8 for i in range(256)},
    "mostly one": {"aaaa": 900} | {f"{i:04x}": 1 for i in range(600)},
}  # fmt: skip


@pytest.mark.parametrize("name", FEW_DIFFERENT)
def test_both_parts_have_the_distribution_of_a_table_of_few_different_samples(tmp_path, name):
    counts = FEW_DIFFERENT[name]
    lines = [",".join(sample) + "\n" for sample, count in counts.items() for _ in range(count)]
    header = ",".join(f"x{i}" for i in range(len(next(iter(counts))))) + "\n"
    table = Table(path=str(file(tmp_path, header + "".join(lines))), val_fraction=0.2)
    train, val = table.open()
    n = len(lines)
    assert 0 < len(val) < len(train)
    assert len(train) + len(val) == n
    assert abs(len(val) / n - 0.2) < 4 * math.sqrt(0.2 * 0.8 / n)
    for one, other in zip(train.values, val.values):
        shares = [np.bincount(part.astype(int), minlength=9) / len(part) for part in (one, other)]
        assert np.abs(shares[0] - shares[1]).max() < 4 * math.sqrt(0.25 / len(val))
    apart = sum(times > 1 for times in counts.values())
    (said,) = [line for line in table.inspect().findings if "are copies of others" in line]
    assert said.endswith(f"stay in one part of the data, but for those of {apart:,} that are frequent.")


@pytest.mark.parametrize("fraction", [1e-9, 0.999999999])
def test_no_part_is_empty(tmp_path, fraction):
    train, val = Table(path=str(file(tmp_path, "a,b\n" + rows(20, "{i}.5,{j}\n"))), val_fraction=fraction).open()
    assert min(len(train), len(val)) == 1


def test_inspection_names_what_is_suspicious(tmp_path):
    g = np.random.default_rng(0)
    lines = [f"{v:.2f},{'Yes' if v > 0 else 'yes'},{s}\n" for v, s in zip(g.normal(size=99), ["-999", "3", "4"] * 33)]
    path = file(tmp_path, "a,b,c\n" + "".join(lines) + "1e6,Yes,3\n")
    said = "\n".join(Table(path=str(path), kinds={"c": "number"}).inspect().lines())
    assert "'a' has 1 values far from all others: 1000000. Are they mistakes?" in said
    assert "'b' has values that differ in case alone: " in said
    assert "'c' is -999 in 33 samples: if that means missing, add it to data.missing" in said


def test_a_repeated_code_that_is_the_only_negative_value_is_named(tmp_path):
    incomes = [str(20_000 + 181 * i) for i in range(980)]
    for codes, named in ((["-999"] * 20, True), (["-999"] * 2, False), (["-999"] * 20 + ["-2500"], False)):
        _, _, table = column(tmp_path, [*incomes, *codes])
        said = any(f"'x' is -999 in {len(codes)} samples: if that means" in line for line in table.inspect().findings)
        assert said == named


def test_a_table_is_detected_and_inspected_from_the_command_line(tmp_path, capsys):
    path = customers.with_holes(tmp_path)
    assert chosen(path) == Table(path=str(path))
    assert main(["inspect", str(path)]) == 0
    said = capsys.readouterr().out
    assert "300 samples, 7 columns" in said
    assert "spend" in said
    assert "% missing" in said


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_mutated_files_are_read_or_refused_in_words(tmp_path, suffix):
    """Bytes flipped, cut, doubled and inserted: never anything but a table or a `ValueError`."""
    whole = customers.written(tmp_path / "a.csv", count=40)
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
        from langevin.modalities.modality import Samples

        table = Table(path=str(whole))
        train, _ = table.open()
        fitted = table.fitted(train)
        whole = tmp_path / "a.parquet"
        fitted.save(Samples(modality=fitted, values=fitted.rows(train.values)), whole)
    content, g, refused = whole.read_bytes(), np.random.default_rng(0), 0
    special = [b'"', b"\n", b",", b"\x00", b"\xff\xfe", b"1e999", b"\xc3", b";;;;", b"inf", b"-", b"2023-13-45", b"\r"]
    for k in range(150):
        data = bytearray(content)
        for _ in range(1 + k % 4):
            at = int(g.integers(0, len(data)))
            match int(g.integers(0, 4)):
                case 0:
                    data[at] = int(g.integers(0, 256))
                case 1:
                    del data[at : at + int(g.integers(1, 60))]
                case 2:
                    data[at:at] = special[int(g.integers(0, len(special)))]
                case _:
                    data[at:at] = data[at : at + 40]
        path = file(tmp_path, bytes(data), f"mutated{suffix}")
        try:
            detect(path)
            table = Table(path=str(path))
            table.inspect()
            train, _ = table.open()
            fitted = table.fitted(train)
            fitted.rows(train.values)
        except ValueError:
            refused += 1
    assert refused < 150
