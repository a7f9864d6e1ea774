"""A Hub on loopback: what huggingface_hub asks for, from memory, with faults on demand.

The client is the real one. What could be installed instead is either a mirror that
takes no commits, or a deployment with a database and an object store; and none can be
told to break off in the middle of a file, or to move a branch between two of them.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from conformance.loopback_store import Missing, Repository, mode, tree

if TYPE_CHECKING:
    from collections.abc import Callable

_PLURALS = ("models", "kernels", "datasets", "spaces")


def warm_up() -> None:
    """Import the client, which reads its variables anew where a test sets them."""
    importlib.import_module("huggingface_hub.hf_api")
    importlib.import_module("huggingface_hub.file_download")


class Request(NamedTuple):
    """What the client has asked for."""

    method: str
    path: str
    token: str


class Served(NamedTuple):
    """A file whose contents were sent: its repository, its commit and its path."""

    repo_id: str
    commit: str
    path: str


class Hub:
    """A Hub that serves while its block runs.

    Args:
        repositories: By plural and name, `models/publisher/name`.
        requests: All that was asked.
        served: All files whose contents were sent, whole or in part.
        before_file: Called with the path of a file before it is sent.
        cuts: How often to break off in the middle of a file, by its last name.
        altered: Other contents to send for a file, by its last name.
        before_commit: Called, each once, before a commit is looked at.
        commits_left: How many commits are taken before the Hub takes no more.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.served: list[Served] = []
        self.before_file: Callable[[str], object] = str
        self.cuts: dict[str, int] = {}
        self.altered: dict[str, Callable[[bytes], bytes]] = {}
        self.before_commit: list[Callable[[], object]] = []
        self.commits_left = 2**31
        self.closed = False
        self.large: dict[str, bytes] = {}
        hub = self

        class Handler(_Handler):
            def __init__(self, *args: Any) -> None:
                self.hub = hub
                super().__init__(*args)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Hub:  # noqa: PYI034  # Self is of Python 3.11
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Serve no more; connections are refused from now on."""
        self.closed = True  # connections that are open would go on being served
        self._server.shutdown()
        self._server.server_close()

    def make(self, repo_id: str, kind: str = "models") -> Repository:
        """Make a repository, as the Hub does, with a first commit."""
        made = self.repositories.setdefault(f"{kind}/{repo_id}", Repository())
        if not made.commits:
            made.commit({".gitattributes": b"*.pt2 filter=lfs\n"})
        return made

    def __getitem__(self, repo_id: str) -> Repository:
        return self.repositories[f"models/{repo_id}"]


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_args: object) -> None:
        """Say nothing: what was asked is in the log of the Hub."""

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815  # http.server's names

    def _answer(self) -> None:
        if self.hub.closed:
            self.close_connection = True
            return
        path = unquote(urlsplit(self.path).path).strip("/")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.hub.requests.append(Request(self.command, path, token))
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        try:
            if path.startswith("api/"):
                self._api(path.split("/")[1:], body)
            elif path.startswith("large/"):
                self.hub.large[path.removeprefix("large/")] = body
                self._say({})
            elif path.endswith("info/lfs/objects/batch"):
                self._batch(json.loads(body))
            else:
                self._file(path)
        except Missing as missing:
            self._refuse(HTTPStatus.NOT_FOUND, str(missing))

    def _api(self, parts: list[str], body: bytes) -> None:
        if parts[0] == "validate-yaml":
            self._say({"errors": [], "warnings": []})
            return
        if parts == ["repos", "create"]:
            self._create(json.loads(body))
            return
        if len(parts) < len(("kind", "publisher", "name")):
            raise Missing("EntryNotFound")
        kind, publisher, name, *rest = parts
        repo_id = f"{publisher}/{name}"
        repository = self._repository(kind, repo_id)
        what, *more = rest or ["revision", "main"]
        sha = repository.at(more[0])
        files = repository.commits[sha]
        if what == "revision":
            names = [{"rfilename": file} for file in files]
            self._say({"id": repo_id, "sha": sha, "siblings": names, "tags": []})
        elif what == "tree":
            self._say(tree(files, "/".join(more[1:])))
        elif what == "preupload":
            self._say({"files": [mode(file) for file in json.loads(body)["files"]]})
        elif what == "commit":
            self._commit(repo_id, repository, more[0], body)
        else:
            raise Missing("EntryNotFound")

    def _create(self, asked: dict[str, Any]) -> None:
        repo_id = f"{asked['organization']}/{asked['name']}"
        kind = f"{asked.get('type') or 'model'}s"
        known = f"{kind}/{repo_id}" in self.hub.repositories
        self.hub.make(repo_id, kind)
        status = HTTPStatus.CONFLICT if known else HTTPStatus.OK
        self._say({"url": f"{self.hub.url}/{repo_id}"}, status)

    def _commit(
        self, repo_id: str, repository: Repository, branch: str, body: bytes
    ) -> None:
        while self.hub.before_commit:
            self.hub.before_commit.pop()()
        if not self.hub.commits_left:
            self._refuse(HTTPStatus.FORBIDDEN, "Forbidden")
            return
        self.hub.commits_left -= 1
        files = dict(repository.commits[repository.at(branch)])
        for line in body.splitlines():
            entry = json.loads(line)
            key, value = entry["key"], entry["value"]
            parent = value.get("parentCommit") if key == "header" else None
            if parent not in (None, repository.at(branch)):
                self._refuse(HTTPStatus.PRECONDITION_FAILED, "CommitConflict")
                return
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        sha = repository.commit(files, branch)
        url = f"{self.hub.url}/{repo_id}/commit/{sha}"
        self._say({"commitUrl": url, "commitOid": sha, "success": True})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = [
            {**o, "actions": {"upload": {"href": f"{self.hub.url}/large/{o['oid']}"}}}
            for o in asked["objects"]
        ]
        self._say({"transfer": "basic", "objects": objects})

    def _file(self, path: str) -> None:
        """Send a file, or the part of it that was asked for."""
        first = path.split("/", maxsplit=1)[0]
        kind = first if first in _PLURALS else "models"
        name, found, rest = path.removeprefix(f"{kind}/").partition("/resolve/")
        if not found:
            raise Missing("EntryNotFound")
        repository = self._repository(kind, name)
        if repository.gated:
            self._refuse(HTTPStatus.FORBIDDEN, "GatedRepo")
            return
        revision, _, file = rest.partition("/")
        self.hub.before_file(file)
        sha = repository.at(revision)
        if file not in repository.commits[sha]:
            raise Missing("EntryNotFound")
        whole = repository.commits[sha][file]
        last = file.rpartition("/")[2]
        data = self.hub.altered.get(last, bytes)(whole)
        start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        self.send_response(HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK)
        self.send_header("ETag", f'"{hashlib.sha256(whole).hexdigest()}"')
        self.send_header("X-Repo-Commit", sha)
        self.send_header("Accept-Ranges", "bytes")
        if start:
            span = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.send_header("Content-Range", span)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.hub.served.append(Served(name, sha, file))
        if self.hub.cuts.get(last, 0) > 0:
            self.hub.cuts[last] -= 1
            data = data[: start + (len(data) - start) // 2]
            self.close_connection = True
        self.wfile.write(data[start:])

    def _repository(self, kind: str, repo_id: str) -> Repository:
        try:
            return self.hub.repositories[f"{kind}/{repo_id}"]
        except KeyError:
            raise Missing("RepoNotFound") from None

    def _refuse(self, status: HTTPStatus, code: str) -> None:
        self._say({"error": code}, status, {"X-Error-Code": code})

    def _say(
        self,
        answer: object,
        status: HTTPStatus = HTTPStatus.OK,
        headers: dict[str, str] | None = None,
    ) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
