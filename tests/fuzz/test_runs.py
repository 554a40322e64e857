"""Run directories with a mutated file: read, or refused in words; no crash, no hang, bounded memory."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import runs
from tests.fuzz.mutate import edited, edits, in_a_process

FEW = settings(
    max_examples=60, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return runs.make(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(scope="module")
def files(run):
    return runs.forms(run)


def test_a_run_that_is_not_mutated_is_read(run, files):
    assert {runs.read(content, run) for content in files.values()} == {f"0 of {len(runs.USES)} refused"}


@FEW
@given(draw=st.data(), changes=edits)
def test_a_mutated_run_is_read_or_refused(run, files, draw, changes):
    name = draw.draw(st.sampled_from(sorted(files)))
    runs.read(edited(files[name], changes), run)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_very_many_mutated_runs_are_read_or_refused():
    count = int(os.environ.get("LANGEVIN_FUZZ", "10000"))
    told = in_a_process("tests.fuzz.runs", count=count)
    print(told)
    assert f"tried {count:,} files" in told
