"""Where a test tells the stand-in to misbehave as a GPU's engine can: one JSON file, read before each step.

{"hang": true}                                        the Executor stands still, until the file says otherwise
{"fail": {"text": …, "at": "forwardAsync",            an error in a step, for every request under way:
          "after": 3, "times": 1}}                    once one has so many tokens, so often (null: for ever)
{"abort": true}                                       the process ends as on a C++ abort, at the next step
{"pause_s": 0.01}                                     each step takes so long
{"load": "hang"}, {"load": "…"}                       loading stands still, or fails with this text
{"record": "/path"}                                   each request, as it was understood, as a line of JSON there
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upstream import FAILURES

FILE = Path(__file__).parents[2] / "door.json"
POLL_S = 0.01


class Door:
    """The file's wishes, as they are now."""

    def __init__(self, file: Path = FILE) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._read: tuple[int, int] | None = None
        self._wishes: Mapping[str, Any] = {}
        self._failed = 0

    def wish(self, name: str) -> Any:
        """Asked by several threads: whoever finds a new file reads it before anybody goes on."""
        with self._lock:
            written = self._state()
            if written != self._read:
                self._wishes = json.loads(self._file.read_text()) if written else {}
                self._read, self._failed = written, 0
            return self._wishes.get(name)

    def _state(self) -> tuple[int, int] | None:
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def load(self) -> None:
        """Before the model is ready. Raises RuntimeError."""
        while self.wish("load") == "hang":
            time.sleep(POLL_S)
        if text := self.wish("load"):
            raise RuntimeError(text)

    def step(self, at: str, made: int) -> None:
        """Within a step of requests of which one has made so many tokens. Raises RuntimeError."""
        while self.wish("hang"):
            time.sleep(POLL_S)
        if self.wish("abort"):
            os.abort()
        if at == "forwardAsync":
            time.sleep(self.wish("pause_s") or 0)
        fail = self.wish("fail")
        if not fail or fail.get("at", "forwardAsync") != at or made < fail.get("after", 0):
            return
        times = fail.get("times", 1)
        if times is None or self._failed < times:
            self._failed += 1
            text = fail["text"]
            raise FAILURES.get(text) or RuntimeError(text)

    def record(self, request: Mapping[str, Any]) -> None:
        if path := self.wish("record"):
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(request) + "\n")
