"""Mutated images of every format: pixels, or `Broken` with the path; no crash, no hang, bounded memory."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.images import forms, read, repaired
from tests.fuzz.mutate import edited, edits, in_a_process

FORMS = forms()
FEW = settings(
    max_examples=300, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_what_is_mutated_below_is_read_as_it_is(name, tmp_path):
    assert read(FORMS[name], tmp_path / "a.img") == "read"
    assert read(repaired(FORMS[name]), tmp_path / "a.img") == "read"


@pytest.mark.filterwarnings("ignore")
@FEW
@given(name=st.sampled_from(sorted(FORMS)), changes=edits, repair=st.booleans())
def test_a_mutated_image_is_read_or_broken(tmp_path, name, changes, repair):
    data = edited(FORMS[name], changes)
    read(repaired(data) if repair else data, tmp_path / "a.img")


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_very_many_mutated_images_are_read_or_broken():
    count = int(os.environ.get("LANGEVIN_FUZZ", "20000"))
    told = in_a_process("tests.fuzz.images", count=count)
    print(told)
    assert f"tried {count:,} files" in told
