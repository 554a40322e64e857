"""Mutated sound files: a signal, or a sentence; no crash, no hang, bounded memory."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutate import edited, edits, in_a_process
from tests.fuzz.sounds import forms, listened

FORMS = forms()


@pytest.mark.parametrize("name", sorted(set(FORMS) - {"empty"}))
def test_what_is_mutated_below_is_read_as_it_is(name):
    assert listened(FORMS[name]) == "read"


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(name=st.sampled_from(sorted(FORMS)), changes=edits)
def test_a_mutated_file_is_read_or_refused(name, changes):
    listened(edited(FORMS[name], changes))


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_very_many_mutated_files_are_read_or_refused():
    count = int(os.environ.get("LANGEVIN_FUZZ", "20000"))
    told = in_a_process("tests.fuzz.sounds", count=count)
    print(told)
    assert f"tried {count:,} files" in told
