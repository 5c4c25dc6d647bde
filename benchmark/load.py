"""A client process: `python -m benchmark.load` reads a Load a line, puts it on, and writes a Result a line.

Load comes from processes of its own, so that the CPU time of a client is known apart from the server's, and the
bare loop's is a client's whole CPU time: the price of reading Triton's messages at all.
"""

import asyncio
import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from benchmark.http_stream import Connection, request

LIMIT_S = 600


@dataclass(frozen=True)
class Load:
    """Streams at a time on one path, each asking so many times. The answer to expect is known beforehand."""

    path: str
    triton: str
    http: str
    streams: int
    requests: int
    tokens: int
    """Most tokens of an answer."""
    expected_tokens: int
    expected_bytes: int
    prompt: str
    text: str
    """The prompt in the model's template, for the ensemble."""
    input_ids: list[int]
    end_ids: list[int]
    stagger_s: float = 0.0
    """Streams begin one by one over so long a time."""
    begin_s: float = 0.0
    """The first of them begins after so long, since another process has begun others."""
    chat_model: str = ""

    def begins_s(self, number: int) -> float:
        """After how long a stream begins."""
        return self.begin_s + self.stagger_s * number / self.streams


@dataclass
class Result:
    """What one process saw. Times are in seconds; `began` and `ended` are the machine's monotonic clock."""

    tokens: int = 0
    requests: int = 0
    cpu_s: float = 0.0
    began: float = 0.0
    ended: float = 0.0
    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, sent: float, arrivals: list[float], tokens: int) -> None:
        """A request that was answered in full."""
        self.requests += 1
        self.tokens += tokens
        self.first.append(arrivals[0] - sent)
        self.gaps += [b - a for a, b in pairwise(arrivals)]


class Way(ABC):
    """One way to the engine's tokens, for one load after another."""

    @abstractmethod
    async def stream(self, load: Load, result: Result, number: int) -> None:
        """One stream of the load: all of its requests. Raises on the first that fails."""

    @abstractmethod
    async def open(self, load: Load) -> None:
        """Make the connections that the load needs; not measured."""

    @abstractmethod
    async def close(self) -> None:
        """Close them."""


class Bare(Way):
    """tritonclient.grpc.aio as in its documentation, on `tensorrt_llm` or the ensemble."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._client: Any = None

    async def open(self, load: Load) -> None:
        import tritonclient.grpc.aio as grpcclient  # noqa: PLC0415

        if self._client is None:
            self._client = grpcclient.InferenceServerClient(load.triton)

    async def close(self) -> None:
        await self._client.close()

    async def stream(self, load: Load, result: Result, number: int) -> None:
        text = self._model == "ensemble"
        for _ in range(load.requests):
            arrivals: list[float] = []
            count = 0
            sent = time.monotonic()
            async for output in self.answer(load, "text_output" if text else "output_ids"):
                arrivals.append(time.monotonic())
                count += sum(map(len, output.reshape(-1))) if text else output.size
            check(count, load.expected_bytes if text else load.expected_tokens)
            result.add(sent, arrivals, load.expected_tokens)

    async def answer(self, load: Load, output: str) -> AsyncIterator[Any]:
        """The bare loop: one output of each response, as an array. Raises InferenceServerException."""
        message = self._ensemble_request(load) if output == "text_output" else self._request(load)
        async for result, error in self._client.stream_infer(self._one(message)):
            if error is not None:
                raise error
            array = result.as_numpy(output)
            if array is not None:
                yield array

    async def _one(self, message: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield message

    def _request(self, load: Load) -> dict[str, Any]:
        import numpy as np  # noqa: PLC0415

        first, *further = load.end_ids
        words = {"stop_words_list": np.array([[further, range(1, 1 + len(further))]], np.int32)} if further else {}
        return self._message(
            {
                "input_ids": np.array([load.input_ids], np.int32),
                "input_lengths": np.array([[len(load.input_ids)]], np.int32),
                "request_output_len": np.array([[load.tokens]], np.int32),
                "streaming": np.array([[True]]),
                "end_id": np.array([[first]], np.int32),
                **words,
            },
            "output_ids",
        )

    def _ensemble_request(self, load: Load) -> dict[str, Any]:
        import numpy as np  # noqa: PLC0415

        return self._message(
            {
                "text_input": np.array([[load.text.encode()]], np.object_),
                "max_tokens": np.array([[load.tokens]], np.int32),
                "stream": np.array([[True]]),
            },
            "text_output",
        )

    def _message(self, tensors: dict[str, Any], output: str) -> dict[str, Any]:
        import tritonclient.grpc.aio as grpcclient  # noqa: PLC0415
        from tritonclient.utils import np_to_triton_dtype  # noqa: PLC0415

        inputs = []
        for name, array in tensors.items():
            entry = grpcclient.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            entry.set_data_from_numpy(array)
            inputs.append(entry)
        outputs = [grpcclient.InferRequestedOutput(output)]
        return {"model_name": self._model, "inputs": inputs, "outputs": outputs}


class Http(Way):
    """`generate` as bare text (`text`) or server-sent events (`sse`), or /v1/chat/completions (`chat`)."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._connections: list[Connection] = []

    async def open(self, load: Load) -> None:
        host, _, port = load.http.rpartition(":")
        loop = asyncio.get_running_loop()
        # Anew for each load: the server closes a connection that nobody has used for some seconds.
        await self.close()
        self._connections = []
        for _ in range(load.streams):
            _, connection = await loop.create_connection(lambda: Connection(self._kind == "chat"), host, int(port))
            self._connections.append(connection)

    async def close(self) -> None:
        for connection in self._connections:
            connection.close()

    async def stream(self, load: Load, result: Result, number: int) -> None:
        connection = self._connections[number]
        message = self._message(load)
        for _ in range(load.requests):
            sent = await connection.ask(message)
            if self._kind == "text":
                check(connection.size, load.expected_bytes)
            else:
                check(connection.completion_tokens, load.expected_tokens)
            result.add(sent, connection.arrivals, load.expected_tokens)

    def _message(self, load: Load) -> bytes:
        if self._kind == "chat":
            from bento_trtllm.text.prompt import SYSTEM_PROMPT  # noqa: PLC0415

            roles = {"system": SYSTEM_PROMPT, "user": load.prompt}
            body = {
                "model": load.chat_model,
                "messages": [{"role": role, "content": content} for role, content in roles.items()],
                "max_tokens": load.tokens,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            return request(load.http, "/v1/chat/completions", body, "text/event-stream")
        body = {"prompt": load.prompt, "max_tokens": load.tokens}
        return request(load.http, "/generate", body, "*/*" if self._kind == "text" else "text/event-stream")


PATHS = ("bare", "ensemble", "text", "sse", "chat")
HTTP_PATHS = ("text", "sse", "chat")


def make(name: str) -> Way:
    if name in HTTP_PATHS:
        return Http(name)
    return Bare("ensemble" if name == "ensemble" else "tensorrt_llm")


def check(got: int | None, expected: int) -> None:
    """Raises ValueError for an answer that is not whole: nothing is counted that did not arrive."""
    if got != expected:
        raise ValueError(f"an answer had {got} where {expected} were expected")


async def put_on(way: Way, load: Load) -> Result:
    """The load from its first request to its last answer."""
    await way.open(load)
    result = Result()

    async def one(number: int) -> None:
        await asyncio.sleep(load.begins_s(number))
        try:
            await way.stream(load, result, number)
        except Exception as error:  # whatever a client library raises is a failed answer
            result.errors.append(f"{type(error).__name__}: {error}")

    cpu = time.process_time()
    result.began = time.monotonic()
    await asyncio.wait_for(asyncio.gather(*map(one, range(load.streams))), LIMIT_S)
    result.ended = time.monotonic()
    result.cpu_s = time.process_time() - cpu
    return result


async def main() -> None:
    ways: dict[str, Way] = {}
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        load = Load(**json.loads(line))
        way = ways.setdefault(load.path, make(load.path))
        print(json.dumps(asdict(await put_on(way, load))), flush=True)
    for way in ways.values():
        await way.close()


if __name__ == "__main__":
    asyncio.run(main())
