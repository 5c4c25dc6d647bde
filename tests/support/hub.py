"""A Hugging Face of our own on a free port: enough of its HTTP API for huggingface_hub to download from."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serve_hub(models: Mapping[str, Path | tuple[int, str]]) -> Iterator[str]:
    """Serve models by id and yield the address for HF_ENDPOINT.

    A model is a directory, all of it at one commit, or a status with the X-Error-Code that Hugging Face sends
    along: 401 RepoNotFound, 403 GatedRepo.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(body=True)

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def log_message(self, *args: Any) -> None:
            pass

        def answer(self, body: bool) -> None:
            path = self.path.split("?")[0].strip("/")
            api = path.startswith("api/models/")
            parts = path.removeprefix("api/models/").split("/")
            model = models.get("/".join(parts[:2]), (401, "RepoNotFound"))
            if isinstance(model, tuple):
                return self.send(model[0], b"{}", {"X-Error-Code": model[1]}, body)
            kind, revision, *rest = parts[2:] or ["revision", "main"]
            if revision not in ("main", COMMIT):
                return self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
            if not api:
                content = (model / "/".join(rest)).read_bytes()
                headers = {"ETag": f'"{sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
                return self.send(200, content, headers, body)
            files = [file for file in sorted(model.rglob("*")) if file.is_file()]
            names = {str(file.relative_to(model)): file.stat().st_size for file in files}
            tree = [{"type": "file", "path": name, "size": size, "oid": "0"} for name, size in names.items()]
            info = {"id": "/".join(parts[:2]), "sha": COMMIT, "siblings": [{"rfilename": n} for n in names]}
            return self.send(200, json.dumps(tree if kind == "tree" else info).encode(), {}, body)

        def send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
