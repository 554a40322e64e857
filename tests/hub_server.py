"""A server that answers as the Hub does, of models, over HTTP: commits, large files, and tokens that may read or write."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

WRITER, READER = "hf_writer", "hf_reader"
SMALL = 1000  # bytes up to which a file is in the commit itself


class Store:
    """Repositories by name: a list of commits, each a mapping of file names to contents; and large files by hash.

    `refuse_after` is the number of large files that are taken before the connection is cut; `requests` are those so far."""

    def __init__(self):
        self.commits, self.large, self.requests, self.private, self.messages = {}, {}, [], {}, []
        self.refuse_after = None

    def files(self, repository):
        return self.commits[repository][-1]

    def put(self, repository, **files):
        """Commit changed files, by their names."""
        self.commits.setdefault(repository, [{}])
        self.commits[repository].append({**self.files(repository), **files})


def sha_of(repository, number):
    return hashlib.sha1(f"{repository}/{number}".encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def refused(self, repository):
        """Whether the token may not write; then the answer is sent."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in (WRITER, READER):
            self.answer(401, {"error": "Invalid credentials"})
        elif token == READER:
            self.answer(403, {"error": f"you may not write to {repository}"})
        return token != WRITER

    def commit_of(self, repository, revision):
        """The number of a commit; None if there is none, and then the answer is sent."""
        commits = self.store.commits.get(repository, [])
        for number in reversed(range(len(commits))):
            if revision == sha_of(repository, number) or (revision == "main" and number == len(commits) - 1):
                return number
        self.answer(404, {"error": "not found"}, X_Error_Code="RevisionNotFound" if commits else "RepoNotFound")
        return None

    def do_POST(self):
        path, content = unquote(urlparse(self.path).path), self.body()
        self.store.requests.append(("POST", path))
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked['organization']}/{asked['name']}"
            if self.refused(name):
                return None
            if name in self.store.commits:
                return self.answer(409, {"error": "you already created this", "url": f"/{name}"})
            self.store.commits[name], self.store.private[name] = [{".gitattributes": b"*"}], asked.get("visibility")
            return self.answer(200, {"url": f"http://{self.headers['Host']}/{name}", "id": name, "name": name})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/([^/]+)", path):
            repository = found[1]
            if self.refused(repository) or (number := self.commit_of(repository, found[3])) is None:
                return None
            return self.preupload(content) if found[2] == "preupload" else self.commit(repository, number, content)
        if found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return None if self.refused(found[1]) else self.batch(content)
        return self.answer(404, {"error": path})

    def preupload(self, content):
        files = json.loads(content)["files"]
        modes = [
            {"path": f["path"], "uploadMode": "lfs" if f["size"] > SMALL else "regular", "shouldIgnore": False}
            for f in files
        ]
        return self.answer(200, {"files": modes})

    def batch(self, content):
        found = []
        for one in json.loads(content)["objects"]:
            href = f"http://{self.headers['Host']}/large/{one['oid']}"
            absent = one["oid"] not in self.store.large
            found.append({**one, **({"actions": {"upload": {"href": href}}} if absent else {})})
        return self.answer(200, {"transfer": "basic", "objects": found})

    def commit(self, repository, number, content):
        files = dict(self.store.commits[repository][number])
        for line in map(json.loads, content.splitlines()):
            value = line["value"]
            match line["key"]:
                case "header":
                    self.store.messages.append(value["summary"])
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.store.large[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        self.store.commits[repository].append(files)
        oid = sha_of(repository, number + 1)
        return self.answer(
            200, {"commitUrl": f"http://{self.headers['Host']}/{repository}/commit/{oid}", "commitOid": oid}
        )

    def do_PUT(self):
        name, content = self.path.rpartition("/")[2], self.body()
        if self.store.refuse_after is not None and len(self.store.large) >= self.store.refuse_after:
            return self.answer(400, {"error": "the storage refused it"})
        if hashlib.sha256(content).hexdigest() != name:
            return self.answer(400, {"error": "another hash"})
        self.store.requests.append(("PUT", name))
        self.store.large[name] = content
        return self.answer(200, ETag=f'"{name}"')

    def do_GET(self):
        path = unquote(urlparse(self.path).path)
        self.store.requests.append((self.command, path))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            repository, number = found[1], self.commit_of(found[1], found[2] or "main")
            if number is None:
                return None
            files = self.store.commits[repository][number]
            siblings = [{"rfilename": name, "size": len(data)} for name, data in sorted(files.items())]
            about = {"id": repository, "modelId": repository, "sha": sha_of(repository, number), "siblings": siblings}
            return self.answer(200, {**about, "private": False, "tags": [], "downloads": 0, "likes": 0})
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            number = self.commit_of(found[1], found[2])
            if number is None:
                return None
            content = self.store.commits[found[1]][number].get(found[3])
            if content is None:
                return self.answer(404, {"error": "no such file"}, X_Error_Code="EntryNotFound")
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self.answer(200, content, ETag=etag, X_Repo_Commit=sha_of(found[1], number))
        return self.answer(404, {"error": path})

    do_HEAD = do_GET  # noqa: N815


@contextmanager
def hub():
    """A server on this machine, as (address, store)."""
    store = Store()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"store": store}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", store
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def client(monkeypatch, folder, *, token=WRITER):
    """A server, and the Hub's library set to it, with a cache and a token of its own; yields the store."""
    from huggingface_hub import constants

    with hub() as (address, store):
        monkeypatch.setenv("HF_ENDPOINT", address)
        changes = {
            "HF_HUB_CACHE": str(folder / "cache"), "HF_HUB_DISABLE_XET": True, "HF_TOKEN_PATH": str(folder / "no"),
            "HF_STORED_TOKENS_PATH": str(folder / "none"), "ENDPOINT": address,
            "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
        }  # fmt: skip
        for name, value in changes.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        else:
            monkeypatch.delenv("HF_TOKEN", raising=False)
        yield store
