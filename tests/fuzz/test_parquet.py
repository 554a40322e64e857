"""Mutated Parquet files of images: rows, or a `ValueError` with the path; no crash, no hang, bounded memory."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutate import edited, edits, in_a_process
from tests.fuzz.parquets import forms, read

FORMS = forms()
FEW = settings(
    max_examples=200, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(FORMS) - {"empty"}))
def test_what_is_mutated_below_is_read_as_it_is(name, tmp_path):
    assert read(FORMS[name], tmp_path / "a.parquet") == "read"


@pytest.mark.filterwarnings("ignore")
@FEW
@given(name=st.sampled_from(sorted(FORMS)), changes=edits)
def test_a_mutated_file_is_read_or_refused(tmp_path, name, changes):
    read(edited(FORMS[name], changes), tmp_path / "a.parquet")


def test_a_damaged_footer_never_ends_the_process(tmp_path):
    """Of one with histograms of another size pyarrow's description of a column ends it."""
    changes = [
        ("short>", 0.07028480973788678, 3774754123), ("double", 0.41509393105521264, 3549429637),
        ("zero", 0.05960546989744531, 1936398252), ("bit", 0.56876087012038, 1505689808),
        ("bit", 0.09400966492656772, 696359898), ("insert", 0.03771331503544154, 1506385729),
    ]  # fmt: skip
    assert read(edited(FORMS["checksums"], changes), tmp_path / "a.parquet") == "broken"


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_very_many_mutated_files_are_read_or_refused():
    count = int(os.environ.get("LANGEVIN_FUZZ", "20000"))
    told = in_a_process("tests.fuzz.parquets", count=count)
    print(told)
    assert f"tried {count:,} files" in told
