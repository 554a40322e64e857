"""What must also hold on an accelerator; run with `pytest -m gpu`."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from langevin.cli import main
from langevin.diffusion.condition import Condition
from langevin.diffusion.features import Features
from langevin.diffusion.noise import SampleNoise
from langevin.run.directory import open_run
from langevin.training import checkpoint, machine
from tests import texts

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]


def test_noise_is_the_same_integers_and_normals_to_rounding() -> None:
    here = SampleNoise(seeds=torch.arange(5), steps=torch.arange(5) - 1)
    there = SampleNoise(seeds=here.seeds.cuda(), steps=here.steps.cuda())
    assert torch.equal(here.bits(1001), there.bits(1001).cpu())
    like = torch.zeros(5, 3, 7, 7)
    assert torch.equal(here.uniform(like), there.uniform(like.cuda()).cpu())
    torch.testing.assert_close(there.normal(like.cuda()).cpu(), here.normal(like), atol=2e-6, rtol=2e-6)


def test_features_are_kept_of_samples_that_are_chosen_on_the_device() -> None:
    condition = Condition(span=torch.zeros(3, device="cuda"), features=Features.of(3))
    found = condition.select(torch.tensor([2, 0], device="cuda"))
    assert condition.features is not None
    assert found.features is not None
    assert [condition.features.slots.index(slot) for slot in found.features.slots] == [2, 0]
    assert condition.select(torch.tensor([True, False, True], device="cuda")).count == 2


def test_bf16_is_chosen_where_it_is_many_times_faster() -> None:
    assert machine.precision("auto") == "bfloat16"
    assert machine.matrix_rate(torch.bfloat16) > 4 * machine.matrix_rate(torch.float32)


TASKS = {
    "corpus": ("corpus", ["data.task.context_length=32"]),
    "blocks": ("corpus", ["data.task.context_length=32", "network.attention=block", "network.block_size=8"]),
    "hybrid": ("corpus", ["data.task.context_length=32", "process.kind=hybrid", "network.time_conditioning=true"]),
    "causal": ("corpus", ["data.task.context_length=32", "process.kind=autoregressive", "network.attention=causal"]),
    "pairs": ("summaries", ["data.task.context_length=160", "data.task.max_target_length=30", "data.codec.size=300",
                            "data.task.best_of=2"]),
    "labels": ("inferences", ["data.codec.size=300"]),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_each_task_of_text_trains_and_is_measured(tmp_path: Path, task: str) -> None:
    kind, changes = TASKS[task]
    data = getattr(texts, kind)(tmp_path / kind)
    small = ["training.steps=4", "training.batch=8", "network.width=32", "network.depth=1", "network.head_dim=16"]
    assert main(["train", str(data), "--out", str(tmp_path / "run"), *small, "network.ngram_window=2", *changes]) == 0
    assert main(["evaluate", str(tmp_path / "run"), "--count", "8", "--steps", "4"]) == 0


def weights(run: Path) -> tuple[int, dict[str, torch.Tensor]]:
    built, step, _ = open_run(run).load(ema=0)
    return step, {name: p.detach().clone() for name, p in built.model.network.named_parameters()}


def test_a_run_trains_resumes_samples_and_is_measured(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = [
        "training.steps=6",
        "training.batch=16",
        "training.keep_checkpoints=6",
        "network.width=64",
        "network.depth=2",
    ]
    assert main(["train", "image/digits", "--out", str(run), *small]) == 0
    assert open_run(run).recipe.training.precision == "bfloat16"
    whole = weights(run)
    for path in checkpoint.steps(run / "checkpoints"):
        if checkpoint.step_of(path) > 4:
            shutil.rmtree(path)
    assert weights(run)[0] <= 4
    assert main(["resume", str(run)]) == 0
    again = weights(run)
    assert again[0] == whole[0] == 6
    for name, weight in whole[1].items():  # kernels of an accelerator may add in another order
        torch.testing.assert_close(again[1][name], weight, atol=1e-3, rtol=1e-2)
    assert main(["sample", str(run), "--count", "10", "--out", str(tmp_path / "a.npz")]) == 0
    assert main(["evaluate", str(run), "--count", "64", "--seeds", "1"]) == 0


def test_samples_of_a_cpu_and_a_gpu_agree() -> None:
    from langevin.diffusion.posterior import Point
    from langevin.diffusion.process import Gaussian
    from langevin.diffusion.sampler import DDIM, KarrasGrid, sample, start

    process = Gaussian(sigma_data=0.5)

    def exact(x_t, t, condition):
        alpha, sigma = process.scales(t, x_t)
        return Point(alpha * 0.25 / (alpha**2 * 0.25 + sigma**2) * x_t)

    ends = []
    for device in ("cpu", "cuda"):
        sampler = DDIM(eta=1.0)
        times = KarrasGrid()(torch.tensor([12, 20]), process.schedule).to(device)
        seeds = torch.tensor([3, 4], device=device)
        state = start(sampler, process, torch.zeros(2, 3, 8, 8, device=device), times, seeds)
        for state in sample(sampler, process, exact, state):  # noqa: B007, B020
            pass
        ends.append(replace(state, x=state.x.cpu()).x)
    torch.testing.assert_close(ends[0], ends[1], atol=1e-4, rtol=1e-4)
