"""Where Triton's requests come in: read, refused, handed to the engine, or, with `stop`, ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton_python_backend_utils as pb_utils
from faults import RequestError
from reply import Reply
from request import EngineRequest, RequestReader

Submit = Callable[[EngineRequest, Reply, str], None]
"""Into the engine; the text is the request's id, "" for none."""


class Intake:
    """`submit` takes a request that is well, or raises RequestError; `stop` ends those of an id."""

    def __init__(self, reader: RequestReader, submit: Submit, stop: Callable[[str], None]) -> None:
        self._reader = reader
        self._submit = submit
        self._stop = stop

    def accept(self, request: Any) -> None:
        """Take a request of Triton's. Whatever comes of it is sent to its own response sender."""
        reply = Reply(request)

        def tensor(name: str) -> Any:
            found = pb_utils.get_input_tensor_by_name(request, name)
            return None if found is None else found.as_numpy()

        stop = tensor("stop")
        if stop is not None and stop.any():
            self._stop(request.request_id())
            reply.end()
            return
        try:
            wanted = self._reader.read(tensor)
            reply.input_tokens = len(wanted.prompt)
            if wanted.echo and not wanted.streaming:
                reply.prompt = wanted.prompt
            self._submit(wanted, reply, request.request_id())
        except RequestError as error:
            reply.end(error.fault)
