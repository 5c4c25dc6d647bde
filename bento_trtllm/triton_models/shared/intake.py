"""Where Triton's requests come in: read, refused, handed to the engine, or, with `stop` or `stop_ids`, ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import triton_python_backend_utils as pb_utils
from faults import GONE, RequestError
from parameters import STOP_IDS
from reply import Reply
from request import EngineRequest, RequestReader

Submit = Callable[[EngineRequest, Reply], None]
"""Into the engine."""
MOST_EARLY = 256


class Intake:
    """`submit` takes a request that is well, or raises RequestError; `look` is called when clients have left."""

    def __init__(self, reader: RequestReader, submit: Submit, look: Callable[[], None]) -> None:
        self._reader = reader
        self._submit = submit
        self._look = look
        self._named: WeakSet[Reply] = WeakSet()
        """Of the requests that have a name, while anybody holds them."""
        self._early: deque[str] = deque(maxlen=MOST_EARLY)
        """Names that were stopped and are not known: a long prompt may come after its `stop`, which is short."""

    def accept(self, request: Any) -> None:
        """Take a request of Triton's. Whatever comes of it is sent to its own response sender."""
        reply = Reply(request)

        def tensor(name: str) -> Any:
            found = pb_utils.get_input_tensor_by_name(request, name)
            return None if found is None else found.as_numpy()

        stop, ids = tensor("stop"), tensor(STOP_IDS)
        if ids is not None or (stop is not None and stop.any()):
            self._stop({reply.name} if ids is None else {name.decode("utf-8", "replace") for name in ids.reshape(-1)})
            reply.end()
            return
        if reply.name in self._early:
            reply.end(GONE)
            return
        try:
            wanted = self._reader.read(tensor)
            reply.input_tokens = len(wanted.prompt)
            if wanted.echo and not wanted.streaming:
                reply.prompt = wanted.prompt
            if reply.name:
                self._named.add(reply)
            self._submit(wanted, reply)
        except RequestError as error:
            reply.end(error.fault)

    def _stop(self, names: set[str]) -> None:
        left = [reply for reply in self._named if reply.name in names]
        for reply in left:
            reply.leave()
        if left:
            self._look()
        self._early.extend(names - {reply.name for reply in left} - {""})
