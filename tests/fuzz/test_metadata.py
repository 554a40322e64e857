"""Mutated records and texts: Unicode with remarks, or a `ValueError` with the path; no crash, no hang, bounded memory."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("pyarrow")
from tests.fuzz.corpora import forms, read
from tests.fuzz.mutate import edited, edits, in_a_process

FEW = settings(
    max_examples=80, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


def place(root, name):
    folder = root / name.replace(".", "-")
    folder.mkdir(exist_ok=True)
    return folder / name


@pytest.mark.parametrize("name", sorted(forms()))
def test_what_is_mutated_below_is_read_as_it_is(name, tmp_path):
    assert read(forms()[name], place(tmp_path, name)) == "read"


@FEW
@given(name=st.sampled_from(sorted(forms())), changes=edits)
def test_a_mutated_corpus_is_read_or_refused(tmp_path, name, changes):
    read(edited(forms()[name], changes), place(tmp_path, name))


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_very_many_mutated_corpora_are_read_or_refused():
    count = int(os.environ.get("LANGEVIN_FUZZ", "10000"))
    told = in_a_process("tests.fuzz.corpora", count=count)
    print(told)
    assert told.count("tried") == len(forms())
