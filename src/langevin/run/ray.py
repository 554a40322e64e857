"""A Ray cluster: found or started, and what is drawn on it. Training on it is in `ray_train`.

Ray starts processes, watches them and starts lost ones again. What they do is what they do without it: a worker of a
generation works on the same list in the same folder, and one of a training is a rank like any other.
"""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from packaging.version import Version

from langevin.extras import require
from langevin.run.bulk import Bulk
from langevin.run.drawer import work
from langevin.run.shards import Shard
from langevin.run.workers import Rate
from langevin.training.machine import out_of_memory

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_worker_niceness": "0",  # Ray's own default lets everything else on the machine run first
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",  # importing torch takes long where machines are busy
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths begin where the command was given
}
OLDEST = "2.50"  # the first whose Train this is written for
PATIENCE = 5.0  # seconds in which a cluster has to answer
POLL = 0.5  # seconds between two looks at the workers
RETRIES = 3  # of a worker that was lost while it drew
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(
    (0, 0, 0, 4, 0, 0, 0, 0, 0)
)  # a client's greeting, without settings

Say = Callable[[str], None]


def require_ray() -> Any:
    """The module `ray`, with what its Train needs.

    Raises:
        ValueError: it is not installed, or too old."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    ray = require("ray", "--on ray")
    found = version("ray")
    if Version(found) < Version(OLDEST):
        raise ValueError(
            f"--on ray needs ray {OLDEST} or newer, and {found} is installed: pip install -U 'langevin[ray]'"
        )
    require("ray.train", "--on ray")
    return ray


@contextmanager
def cluster(address: str | None, *, workers: int) -> Iterator[Any]:
    """The module `ray`, connected to a cluster; one that was started for it ends with the block.

    Args:
        address: HOST:PORT, or "auto" for $RAY_ADDRESS or a cluster on this machine; None starts one on this machine, with
            room for so many `workers` of a core each.

    Raises:
        ValueError: nothing answers there, or Ray is missing or too old, or its processes do not find this package."""
    ray = require_ray()
    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        cores = max(workers, os.cpu_count() or 1)
        ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)
    else:
        _connect(ray, address, quiet)
    try:
        yield ray
    except ray.exceptions.RayError as error:
        why = str(error).strip().rpartition("\n")[2]
        raise ValueError(
            f"a process of the Ray cluster failed ({why}): all machines need this version of langevin"
        ) from error
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str, quiet: dict[str, Any]) -> None:
    place = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    if place != "auto":
        require_server(place)
    try:
        ray.init(address=place, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise ValueError(
            f"--address {address}: no Ray cluster could be joined ({first}); `ray start --head` starts one, and without "
            "--address one is started for this command"
        ) from error


def require_server(address: str) -> None:
    """Check that there may be a Ray cluster at HOST:PORT: something that greets as such servers do.

    Raises:
        ValueError: it is no such address, or nothing answers, or something else."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536 or "/" in host:
        raise ValueError(
            f"--address {address} is not HOST:PORT of the head of a Ray cluster, such as head:6379, nor auto"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE) as connection:
            if os.environ.get("RAY_USE_TLS", "0") in ("", "0"):
                connection.sendall(_HTTP2)
                answer = connection.recv(9)
                if len(answer) < 4 or answer[3] != 4:  # its settings come first
                    raise ValueError(f"--address {address}: what answers there is no Ray cluster")
    except OSError as error:
        why = "nothing answers" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise ValueError(
            f"--address {address}: no Ray cluster can be reached there ({why}): `ray status` on its head shows its address"
        ) from error


def accelerators(ray: Any) -> int:
    """The number of GPUs of the cluster."""
    return int(ray.cluster_resources().get("GPU", 0))


# ---------------------------------------------------------------------------------------------------------- generation


def generate_on_ray(
    bulk: Bulk, shards: Sequence[Shard], *, workers: int | None, address: str | None, say: Say, update: Say
) -> None:
    """Make all of the shards on a cluster whose machines share the folder of the request.

    Args:
        workers: their largest number; None is one for each accelerator, or for each core.
        update: shows a text in place of the last one.

    Raises:
        ValueError: the options do not fit the run, or workers were lost too often, or there is no cluster.
        OSError: a shard could not be written."""
    rate = Rate(bulk=bulk, shards=shards, update=update)
    with cluster(address, workers=(workers or 1) * bulk.threads) as ray:
        require_cores(ray.nodes(), bulk.threads)
        gpus, cores = accelerators(ray), int(ray.cluster_resources().get("CPU", 1))
        count = min(workers or gpus or max(1, cores // bulk.threads), len(shards))
        draw = ray.remote(num_cpus=bulk.threads, num_gpus=1 if gpus else 0, max_retries=RETRIES)(_draw)
        say(f"{count} workers of a Ray cluster with {cores} cores" + (f" and {gpus} GPUs" if gpus else ""))
        waiting = [draw.remote(bulk, list(shards), i / count, os.getcwd()) for i in range(count)]
        rate.show()
        while waiting:
            done, waiting = ray.wait(waiting, timeout=POLL)
            rate.show()
            for one in done:
                _result(ray, one)


def require_cores(nodes: Sequence[Any], threads: int) -> None:
    """Check that one of a cluster's machines has room for a worker, which would else wait for ever.

    Raises:
        ValueError: none has so many cores."""
    most = max((int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]), default=0)
    if most < threads:
        raise ValueError(
            f"--threads {threads} are more than the {most} cores of the largest machine of this cluster: give fewer"
        )


def _draw(bulk: Bulk, shards: Sequence[Shard], first: float, folder: str) -> int:
    """What a worker does."""
    enter(folder)
    return work(bulk, shards, first=first)


def enter(folder: str) -> None:
    """Change to the working directory of the command, where its paths begin.

    Raises:
        ValueError: there is no such folder on this machine."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise ValueError(
            f"{folder} is not there on {socket.gethostname()}: the machines of a Ray cluster need one folder with data and "
            "runs, at the same path"
        ) from error


def _result(ray: Any, one: Any) -> None:
    """Raises what a worker raised, as it would have here."""
    try:
        ray.get(one)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        known = isinstance(cause, ValueError | OSError) or (isinstance(cause, Exception) and out_of_memory(cause))
        raise (cause if known else error) from None
    except ray.exceptions.RayError as error:
        raise ValueError(
            f"a worker was lost {RETRIES + 1} times, perhaps for its memory ({str(error).partition(chr(10))[0]}): the same "
            "command goes on"
        ) from error
