"""A hub on this machine: the few HTTP endpoints that `huggingface_hub` downloads by, over folders that a test writes.

It counts what is asked of it, and on request guards a repository, cuts a connection, or answers nothing but errors.
"""

import hashlib
import json
import re
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN = "hf_test"
_API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/(?P<what>revision|tree)/(?P<revision>[^/?]+))?(?:\?.*)?")
_FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>[^?]+)")


class Hub:
    """What the server serves, and what it was asked for.

    `gated` repositories give files to `TOKEN` alone (403 to another one), `private` ones are not even there without it;
    `cuts` says after how many bytes the next transfer of a file breaks off, once; with `down` all answers are 503.
    """

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, Path]] = {}
        self.gated: set[str] = set()
        self.private: set[str] = set()
        self.cuts: dict[str, int] = {}
        self.down = False
        self.asked: list[tuple[str, str]] = []
        self.ranges: list[tuple[str, str]] = []
        self.sent: Counter[str] = Counter()
        self.url = ""

    def publish(self, repo: str, folder: Path) -> str:
        """Makes a folder the newest commit of a repository; returns its hash."""
        known = self.commits.setdefault(repo, {})
        commit = hashlib.sha1(f"{repo} {len(known)}".encode()).hexdigest()
        known[commit] = folder
        return commit

    def newest(self, repo: str) -> str:
        return list(self.commits[repo])[-1]

    def files(self, method: str = "GET") -> list[str]:
        """Files that were transferred, as `owner/name/path`, in the order in which they were first asked for."""
        return list(dict.fromkeys(path for how, path in self.asked if how == method and not path.startswith("/api/")))

    def forget(self) -> None:
        self.asked.clear()
        self.ranges.clear()
        self.sent.clear()


@contextmanager
def running(hub: Hub | None = None):
    """A hub that listens on a free port of this machine while the context is open."""
    hub = hub or Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def connect(monkeypatch, url: str, cache: Path) -> None:
    """Turns the client in this process to a hub and a cache, as `HF_ENDPOINT` and `HF_HOME` do at its import."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.hub.down:
            return self._answer(503)
        if found := _FILE.fullmatch(self.path):
            self.hub.asked.append((self.command, f"{found['repo']}/{found['path']}"))
            return self._file(found["repo"], found["revision"], found["path"])
        self.hub.asked.append((self.command, self.path))
        if found := _API.fullmatch(self.path):
            return self._api(found["repo"], found["what"], found["revision"])
        return self._answer(404)

    def _folder(self, repo: str, revision: str | None) -> tuple[str, Path] | None:
        """The commit and folder of a repository that this client may see; answers with the error where it may not."""
        if repo not in self.hub.commits or (repo in self.hub.private and not self._knows_token()):
            # As the real one: who has no token is not told whether the repository is missing or private.
            self._answer(404 if self._token() else 401, {"X-Error-Code": "RepoNotFound"})
            return None
        commit = self.hub.newest(repo) if revision in (None, "main") else revision
        if commit not in self.hub.commits[repo]:
            self._answer(404, {"X-Error-Code": "RevisionNotFound"})
            return None
        return commit, self.hub.commits[repo][commit]

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _knows_token(self) -> bool:
        return self._token() == TOKEN

    def _api(self, repo: str, what: str | None, revision: str | None) -> None:
        if not (found := self._folder(repo, revision)):
            return
        commit, folder = found
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        names = [path.relative_to(folder).as_posix() for path in paths]
        if what == "tree":
            rows = [
                {"type": "file", "path": name, "size": path.stat().st_size, "oid": _etag(path)}
                for name, path in zip(names, paths, strict=True)
            ]
            return self._json(rows)
        self._json({"id": repo, "sha": commit, "private": False, "siblings": [{"rfilename": name} for name in names]})

    def _file(self, repo: str, revision: str, path: str) -> None:
        if not (found := self._folder(repo, revision)):
            return
        commit, folder = found
        if repo in self.hub.gated and not self._knows_token():
            return self._answer(403 if self._token() else 401, {"X-Error-Code": "GatedRepo"})
        file = folder / path
        if not file.is_file():
            return self._answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        content = file.read_bytes()
        headers = {"ETag": f'"{_etag(file)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        start = 0
        if asked := self.headers.get("Range"):
            self.hub.ranges.append((f"{repo}/{path}", asked))
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._answer(206 if start else 200, headers, content[start:], f"{repo}/{path}")

    def _json(self, found: object) -> None:
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(found).encode())

    def _answer(self, code: int, headers: dict[str, str] | None = None, body: bytes = b"", name: str = "") -> None:
        self.send_response(code)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if name in self.hub.cuts:
            body = body[: self.hub.cuts.pop(name)]
            self.close_connection = True
        self.wfile.write(body)
        self.hub.sent[name] += len(body)


def _etag(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
