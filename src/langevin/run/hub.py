"""The Hub (huggingface.co, or HF_ENDPOINT): runs are pushed to repositories of models, and pulled from them.

A push is one commit, so a repository has all files of a run or those of the one before. What was uploaded before a push was
interrupted is not uploaded again. A pull keeps what it has downloaded too, and makes a run of it when all files have the
hashes that langevin.json states.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langevin.extras import require
from langevin.files import read_regular, write_atomic
from langevin.run.directory import Run, open_run
from langevin.run.published import LINK, MANIFEST, NAMES, published
from langevin.run.pulled import Pulled, assemble, checked_manifest
from langevin.user_function import NO_CODE, CodePermission

REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
PREFIX = "hub:"
MOST_MANIFEST = 2**22  # bytes
OURS = {".gitattributes", "README.md", MANIFEST}
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A client of the Hub for one repository, OWNER/NAME.

    Raises:
        ValueError: no such name is possible, or huggingface_hub is missing."""

    repository: str

    def __post_init__(self) -> None:
        if not REPOSITORY.fullmatch(self.repository) or ".." in self.repository:
            raise ValueError(f"'{self.repository}' is no repository: write OWNER/NAME, as on the Hub")

    @property
    def api(self) -> Any:
        library = require("huggingface_hub", "the Hub")
        return library.HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="langevin")

    def require_token(self) -> None:
        """Raises `ValueError` where there is no token to push with."""
        if not require("huggingface_hub", "the Hub").get_token():
            raise ValueError(
                f"no token to push to {self.repository} with: `hf auth login`, or set HF_TOKEN to one that may write "
                "(huggingface.co/settings/tokens)"
            )


def push(
    path: Path, repository: str, *, private: bool = False, message: str = "", licence: str = "unknown",
    code: CodePermission = NO_CODE, say: Say = lambda line: None,
) -> str:  # fmt: skip
    """Publish a trained run, without its data, and return the address of the repository.

    Args:
        repository: OWNER/NAME, which is made if it does not exist.
        private: whether one that is made is private.
        message: of the commit.
        licence: an identifier of the Hub, such as apache-2.0.

    Raises:
        ValueError: no token, or one that may not write; a repository with other things in it; or no connection."""
    hub, run = Hub(repository=repository), open_run(path)
    hub.require_token()
    made = published(run, repository=repository, licence=licence, code=code)
    for line in made.remarks:
        say(line)
    library, api = require("huggingface_hub", "the Hub"), hub.api
    size = sum(map(len, made.files.values()))
    with explained(f"push to {repository}", f"langevin push {path} {repository}"):
        api.create_repo(repository, private=private or None, exist_ok=True)
        there = {file.rfilename for file in api.model_info(repository).siblings or []}
        if MANIFEST not in there and (foreign := sorted(there - OURS)):
            raise ValueError(
                f"{repository} holds files that are no run of langevin, such as {foreign[0]}: choose another name"
            )
        say(f"pushing {len(made.files)} files, {size / 1e6:.1f} MB, to {repository}")
        operations = [library.CommitOperationAdd(name, data) for name, data in made.files.items()]
        operations += [
            library.CommitOperationDelete(name) for name in sorted(there - made.files.keys()) if NAMES.fullmatch(name)
        ]
        commit = api.create_commit(repository, operations, commit_message=message or f"langevin run {run.path.name}")
    _link(run, repository, commit.oid)
    return f"{api.endpoint}/{repository}"


def pull(
    repository: str,
    out: Path,
    *,
    revision: str | None = None,
    code: CodePermission = NO_CODE,
    say: Say = lambda line: None,
) -> Run:
    """Make a run of a published one, which draws the same samples to the bit.

    Args:
        out: directory of the run.
        revision: a branch, tag or commit; None is main.

    Raises:
        ValueError: there is no run in the repository, or it is damaged, or names code that may not be imported; or no
            connection."""
    hub = Hub(repository=repository)
    api = hub.api
    with explained(f"pull {repository}", f"langevin pull {repository} --out {out}"):
        info = api.model_info(repository, revision=revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        if MANIFEST not in sizes:
            raise ValueError(f"{repository} has no {MANIFEST}, so it holds no run of langevin")
        if sizes[MANIFEST] > MOST_MANIFEST:
            raise ValueError(f"{MANIFEST} has {sizes[MANIFEST]:,} bytes, and is at most {MOST_MANIFEST:,}")
        manifest = checked_manifest(_fetched(api, hub, MANIFEST, info.sha, most=MOST_MANIFEST), sizes)
        if left := sorted(sizes.keys() - manifest.files.keys() - OURS):
            say(f"left where they are, as they are no part of a run: {', '.join(left[:5])}")
        say(f"pulling {len(manifest.files)} files, {sum(size for size, _ in manifest.files.values()) / 1e6:.1f} MB")
        files = {name: _fetched(api, hub, name, info.sha, most=size) for name, (size, _) in manifest.files.items()}
    run = assemble(Pulled(manifest=manifest, files=files), out, code=code, say=say)
    _link(run, repository, info.sha)
    return run


def at_hand(name: str, *, code: CodePermission = NO_CODE, say: Say = lambda line: None) -> Path:
    """The directory of a run that is named hub:OWNER/NAME, which is pulled to runs/NAME if it is not there; of another
    name its path.

    Raises:
        ValueError: see `pull`; or another run is at runs/NAME."""
    if not name.startswith(PREFIX):
        return Path(name)
    from langevin.run.published import link_of

    repository = Hub(repository=name.removeprefix(PREFIX)).repository
    out = Path("runs") / repository.rpartition("/")[2]
    if (out / "recipe.yaml").exists():
        linked = link_of(out)
        if linked is None or linked["repository"] != repository:
            raise ValueError(f"{out} is another run than {repository}: `langevin pull {repository} --out` elsewhere")
        return out
    return pull(repository, out, code=code, say=say).path


def _fetched(api: Any, hub: Hub, name: str, commit: str, *, most: int) -> bytes:
    """The content of a file of a commit, from the cache of the Hub's library if it is there."""
    path = Path(api.hf_hub_download(hub.repository, name, revision=commit)).resolve()
    return read_regular(path, most=most)


def _link(run: Run, repository: str, commit: str) -> None:
    write_atomic(run.path / LINK, json.dumps({"repository": repository, "commit": commit}, indent=1).encode())


@contextmanager
def explained(what: str, again: str) -> Iterator[None]:
    """A context in which errors of the Hub and of the network are a `ValueError` that says what to do."""
    try:
        yield
    except Exception as error:
        chain, status = [error, error.__cause__, error.__context__], 0
        for one in chain:
            status = status or getattr(getattr(one, "response", None), "status_code", 0)
        text = _reason(status, error)
        if text is None and not any(map(_of_network, chain)):
            raise
        reason = text or f"no connection to the Hub ({error})"
        raise ValueError(f"could not {what}: {reason}. `{again}` goes on from there") from error


def _reason(status: int, error: Exception) -> str | None:
    """What an answer of the Hub means; None if there was none."""
    message = str(getattr(error, "server_message", None) or error).strip().splitlines()
    match status:
        case 0:
            return None
        case 401:
            return "the token is wrong or expired, or the repository is private or does not exist: `hf auth login`"
        case 403:
            return "the token may only read, or not write there: make one that may (huggingface.co/settings/tokens)"
        case 404:
            return "there is no such repository or revision, or it is private and the token may not read it"
        case 429:
            return "the Hub has had too many requests from here: wait some minutes"
        case _:
            return f"the Hub answered {status} ({message[0] if message else 'no reason'})"


def _of_network(error: BaseException | None) -> bool:
    known = ("httpx", "requests", "urllib3")
    return isinstance(error, ConnectionError | TimeoutError) or any(
        kind.__module__.startswith(known) for kind in type(error).__mro__
    )


__all__ = ["PREFIX", "Hub", "at_hand", "pull", "push"]
