"""Ray's ranks are ranks like any other, and its workers make the same samples; what is lost is started again.

Ray takes seconds to start, so what needs a cluster is marked slow.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from langevin.cli import main
from langevin.modalities.image.options import Sample
from langevin.run import ray as on_ray
from langevin.run.bulk import Bulk, request_of
from langevin.run.directory import open_run
from langevin.run.display import Display
from langevin.run.drawer import work
from langevin.run.plan import Wanted
from langevin.run.ray import require_cores, require_ray, require_server
from langevin.run.ray_train import OnRay, Resumed, _Fitting, _followed, _outcome, train_on_ray
from langevin.run.stop import Stopped
from langevin.training import checkpoint
from langevin.training.metrics import read_metrics
from tests import pictures, tiny
from tests.run.test_bulk import content

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
CHANGES = (*tiny.SMALL, "training.threads=1", "training.precision=float32", "network.dropout=0.1")

# ------------------------------------------------------------------------------------------------------------ no cluster


def answering(answer):
    """The address of a server on this machine that sends some bytes to whoever connects, or keeps silent for None."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        kept = []
        while True:
            connection, _ = server.accept()
            kept.append(connection)
            if answer is not None:
                connection.recv(100)
                connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_greets_like_rays_may_be_one():
    require_server(answering(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))))


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command\r\n", b"\0"])
def test_a_server_of_something_else_is_none(answer):
    with pytest.raises(ValueError, match="what answers there is no Ray cluster"):
        require_server(answering(answer))


def test_one_that_does_not_answer_is_given_up_soon(monkeypatch):
    monkeypatch.setattr(on_ray, "PATIENCE", 0.1)
    with pytest.raises(ValueError, match="nothing answers"):
        require_server(answering(None))


def test_a_port_that_nobody_listens_at_is_said():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ValueError, match="no Ray cluster can be reached there"):
        require_server(f"127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["head", "head:", "head:x", "head:0", "head:99999", "ray://head:10001", ":6379/x"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        require_server(address)


def test_a_version_that_is_too_old_is_said(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(on_ray, "version", lambda name: "2.9.3")
    with pytest.raises(
        ValueError, match=r"needs ray 2\.50 or newer, and 2\.9\.3 is installed: pip install -U 'langevin\[ray\]'"
    ):
        require_ray()


def test_a_worker_for_which_no_machine_has_room_is_refused():
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": True, "Resources": {}},
             {"Alive": False, "Resources": {"CPU": 64.0}}]  # fmt: skip
    require_cores(nodes, 2)
    with pytest.raises(ValueError, match="--threads 4 are more than the 2 cores"):
        require_cores(nodes, 4)


class Told:
    """Stands for Ray and its board: what ranks have said of a run."""

    def __init__(self, run):
        self.told = {"lines": [], "starts": 1, "progress": {}, "run": str(run)}
        self.read = self

    def remote(self, shown):
        return self.told

    def get(self, told):
        return told


def test_a_request_to_stop_that_beginning_ranks_forget_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr("langevin.run.ray_train.POLL", 0.01)
    file, seen = tmp_path / "requests" / "stop", threading.Semaphore(0)

    def fit():
        for _ in range(3):
            until(file.exists, 20)
            file.unlink(missing_ok=True)
            seen.release()

    told = Told(tmp_path)
    _followed(told, told, _Fitting(run=fit), Display(), lambda path: None, lambda: signal.SIGINT)
    assert all(seen.acquire(timeout=0) for _ in range(3))


def ended(error=None):
    def run():
        if error:
            raise error

    fitting = _Fitting(run=run)
    fitting.thread.join()
    return fitting


def test_how_it_ended_is_said_in_a_line(trained):
    told = {"error": "", "stopped": ("", 0), "run": str(trained)}
    where = OnRay(least=1, most=2, restarts=2)
    assert _outcome(told, ended(), where, 0).path == trained
    with pytest.raises(ValueError, match=r"^the folder is empty$"):
        _outcome({**told, "error": "the folder is empty"}, ended(RuntimeError("lost")), where, 0)
    with pytest.raises(ValueError, match=f"lost 3 times.*: gone; `langevin resume {trained} --on ray` continues"):
        _outcome(told, ended(RuntimeError("a\nb\ngone")), where, 0)
    with pytest.raises(Stopped, match="stopped after step 3") as stopped:
        _outcome({**told, "stopped": ("stopped after step 3", 15)}, ended(), where, 2)
    assert stopped.value.signal == 2


@pytest.mark.parametrize("restarts", [-1, 10_001])
def test_a_budget_out_of_range_is_refused(restarts):
    with pytest.raises(ValueError, match="--restarts must be 0 to"):
        OnRay(least=1, most=1, restarts=restarts)


# ------------------------------------------------------------------------------------------------------------- a cluster


def processes(title):
    """Processes below this one whose title begins so."""
    parents, titles = dict[int, int](), dict[int, str]()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                titles[int(entry.name)] = (entry / "cmdline").read_text()
            except OSError:
                continue

    def below(pid):
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()

    return sorted(pid for pid, found in titles.items() if found.startswith(title) and below(pid))


def until(condition, seconds=200):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def after_step(run, step, do):
    """A thread that does something once a run has a checkpoint of a step."""

    def wait():
        until(
            lambda: (
                (run / "checkpoints").is_dir()
                and any(checkpoint.step_of(p) >= step for p in checkpoint.steps(run / "checkpoints"))
            )
        )
        do()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def groups(run):
    return checkpoint.load(checkpoint.steps(run / "checkpoints")[0]).groups


def wanted(data, out, steps):
    return Wanted(target=str(data), out=out, overrides=(*CHANGES, f"training.steps={steps}"))


@pytest.fixture(scope="module")
def nodes():
    """A cluster of two machines, as far as one can be two, with a core each; the second can be taken away."""
    require_ray()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


STEPS = 150


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The data, and the run of two ranks that were started by hand."""
    folder = tmp_path_factory.mktemp("plain")
    data, out = pictures.classes(folder / "data"), folder / "run"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["train", str(data), "--out", str(out), *CHANGES, f"training.steps={STEPS}"]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "langevin", *words], stderr=subprocess.DEVNULL,
            env=os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in started:
        process.wait(280)
    assert open_run(out).last_step == STEPS
    return data, out


@pytest.mark.slow
@LINUX
def test_two_workers_are_two_ranks_and_one_that_is_killed_is_started_again(plain, nodes, tmp_path):
    data, out = plain
    lines, started = list[str](), list[Path]()
    killing = after_step(tmp_path / "run", 30, lambda: os.kill(processes("ray::RayTrainWorker")[-1], signal.SIGKILL))
    run = train_on_ray(
        wanted(data, tmp_path / "run", STEPS), OnRay(least=2, most=2, address=nodes.address),
        Display(say=lines.append), created=started.append,
    )  # fmt: skip
    assert not killing.is_alive()
    assert [line for line in lines if line.startswith("a worker was lost")]
    assert started == [tmp_path / "run"] == [run.path]
    assert run.last_step == STEPS
    ours, theirs = groups(run.path), groups(out)
    assert {g: set(t) for g, t in ours.items()} == {g: set(t) for g, t in theirs.items()}
    assert all(torch.equal(ours[g][name], tensor) for g, tensors in theirs.items() for name, tensor in tensors.items())
    assert content(run.path / "ema") == content(out / "ema")


@pytest.mark.slow
@LINUX
def test_errors_and_stops_are_those_of_training_without_ray(plain, nodes, tmp_path):
    data, _ = plain
    where = OnRay(least=2, most=2, address=nodes.address, restarts=1)
    with pytest.raises(ValueError, match="neither an existing folder or file nor a shipped recipe"):
        train_on_ray(wanted("nowhere", tmp_path / "no", STEPS), where)
    run, lines = tmp_path / "run", list[str]()
    asking = after_step(run, 15, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped, match="stopped after step"):
        train_on_ray(wanted(data, run, 1000), where, Display(say=lines.append))
    asking.join()
    step = open_run(run).last_step
    assert 15 <= step < 1000
    with pytest.raises(ValueError, match="already holds a run"):
        train_on_ray(wanted(data, run, 1000), where)


@pytest.mark.slow
@LINUX
def test_ranks_become_fewer_with_the_machines_and_go_on(plain, nodes, tmp_path):
    """The last test of the cluster, as it takes a machine away."""
    data, out = plain
    run, lines, removed = tmp_path / "run", list[str](), list[bool]()
    second = next(node for node in nodes.list_all_nodes() if node is not nodes.head_node)
    after_step(run, 30, lambda: removed.append(nodes.remove_node(second)))
    where = OnRay(least=1, most=2, address=nodes.address)
    train_on_ray(wanted(data, run, STEPS), where, Display(say=lines.append))
    assert removed
    assert [line for line in lines if "of a Ray cluster" in line] == [
        "2 ranks of a Ray cluster",
        "one rank of a Ray cluster",
    ]
    assert open_run(run).last_step == STEPS
    early = min(file.name for file in (out / "ema").iterdir())  # of two ranks, as there
    assert (run / "ema" / early).read_bytes() == (out / "ema" / early).read_bytes()
    ours, theirs = (losses(folder) for folder in (run, out))
    assert ours.keys() == theirs.keys()
    assert all(abs(ours[step] - loss) < 0.1 * loss for step, loss in theirs.items())  # sums are rounded otherwise


def losses(run):
    """Held-out losses by step."""
    lines = [line for line in read_metrics(run / "metrics.jsonl") if line.get("val_loss")]
    return {line["step"]: sum(line["val_loss"]) / len(line["val_loss"]) for line in lines}


@pytest.mark.slow
@LINUX
def test_a_cluster_of_its_own_makes_the_same_samples_though_a_worker_is_killed(trained, tmp_path):
    def bulk(name):
        made = Bulk(run=trained, out=tmp_path / name, count=4000, shard_size=200, options=Sample(), form=".npz")
        made.folder.prepare(request_of(made, open_run(trained)))
        return made

    alone, both = bulk("alone"), bulk("both")
    shards = list(both.work_list)

    def kill():
        until(lambda: len(both.folder.missing(shards)) < len(shards) - 1)
        os.kill(processes("ray::_draw")[0], signal.SIGKILL)

    killing = threading.Thread(target=kill, daemon=True)
    killing.start()
    on_ray.generate_on_ray(both, shards, workers=2, address=None, say=lambda line: None, update=lambda line: None)
    assert not killing.is_alive()
    assert both.folder.finish(shards)
    work(alone, shards)
    assert alone.folder.finish(shards)
    assert content(both.out) == content(alone.out)


@pytest.mark.slow
def test_a_run_is_resumed_on_a_cluster_of_its_own(plain, tmp_path):
    data, _ = plain
    stopped = tmp_path / "run"
    assert main(["train", str(data), "--out", str(stopped), *CHANGES, f"training.steps={STEPS}"]) == 0
    whole = groups(stopped)
    newest, *earlier = checkpoint.steps(stopped / "checkpoints")
    assert earlier
    shutil.rmtree(newest)
    run = train_on_ray(Resumed(run=stopped), OnRay(least=1, most=1))
    assert run.last_step == STEPS
    again = groups(stopped)
    assert all(torch.equal(again[g][name], tensor) for g, tensors in whole.items() for name, tensor in tensors.items())
