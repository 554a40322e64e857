"""Changed recipes: one that comes back equal from the file it is written to, or a `ValueError` with the file's name."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutate import edited, edits, in_a_process
from tests.fuzz.recipes import changed, changed_text, changes, forms, read, read_checked, trees

FEW = settings(
    max_examples=60, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(trees()))
def test_what_is_changed_below_is_read_as_it_is(name, tmp_path):
    assert read(forms()[name], tmp_path / "mine.yaml") in ("read", "density")


@FEW
@given(name=st.sampled_from(sorted(trees())), edits=changes)
def test_a_changed_tree_is_a_recipe_or_refused(tmp_path, name, edits):
    tree = changed(trees()[name], edits)
    if isinstance(tree, dict):
        read_checked(tree, tmp_path / "mine.yaml")


@FEW
@given(seed=st.integers(0, 2**40))
def test_a_changed_text_is_a_recipe_or_refused(tmp_path, seed):
    read(changed_text(seed), tmp_path / "mine.yaml")


@FEW
@given(name=st.sampled_from(sorted(forms())), bits=edits)
def test_mutated_bytes_are_a_recipe_or_refused(tmp_path, name, bits):
    read(edited(forms()[name], bits), tmp_path / "mine.yaml")


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_very_many_changed_recipes_are_read_or_refused():
    count = int(os.environ.get("LANGEVIN_FUZZ", "10000"))
    told = in_a_process("tests.fuzz.recipes", count=count)
    print(told)
    assert f"tried {count - count // 2:,} files" in told
