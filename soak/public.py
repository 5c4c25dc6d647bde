"""A storm for any server with OpenAI's API: what it tells its clients while they crowd, leave and break things.

Each prompt is first asked alone, greedily; that answer is the one that all others must get. Faults are signals to the
processes whose ids were given, and to no other: each is stopped for a moment, then continued, and killed later.

It is storm.py's in what clients do, in what is a whole answer, a cut, a wrong byte and a refusal, and in both signals.
storm.py knows its service: it also takes /generate, chooses what to break, and counts second tritonservers and orphans.
"""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
import psutil
from pydantic import BaseModel, Field

from tests.support.demo import SCRIPTS

PROMPTS = tuple(SCRIPTS.values())[:6]
KINDS = ("chat", "chat", "whole", "completion", "leaves", "slow", "bad", "crowd")
TOKENS = 32
CROWD = 40
STOPPED_S = 2.0
"""How long a process is stopped."""
RECOVERY_LIMIT_S = 60.0
PAUSE_S = 0.3
"""The pause of a client that was told to come again, or that met nobody."""
TOLD, SILENT, WRONG, ERRORS = "told cuts", "SILENT CUTS", "WRONG BYTES", "SERVER ERRORS"
AGAIN, NOBODY = "told to come again", "met nobody"
"""Refused with 429 or 503, and not connected: no answer had begun, so none was cut."""
MUST_BE_ZERO = (SILENT, WRONG, ERRORS)


class NotAskable(Exception):
    """The server answers nothing that could be compared."""


class _Message(BaseModel):
    content: str


class _WholeChoice(BaseModel):
    message: _Message


class _Whole(BaseModel):
    """A chat completion."""

    choices: list[_WholeChoice] = Field(min_length=1)


class _Delta(BaseModel):
    content: str | None = None


class _Piece(BaseModel):
    """What a chat's chunk has in `delta` a completion's has in `text`."""

    delta: _Delta = _Delta()
    text: str = ""


class _Chunk(BaseModel):
    choices: list[_Piece] = []
    error: object = None


@dataclass
class Storm:
    """One run against one server."""

    http: httpx.AsyncClient
    random: random.Random
    model: str = ""
    alone: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=lambda: Counter({"whole answers": 0, TOLD: 0, AGAIN: 0}))
    recoveries: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask_alone(self) -> None:
        """Learn the answer to each prompt. Raises NotAskable where two answers to one prompt differ already."""
        try:
            models = await self.http.get("/v1/models")
            self.model = models.raise_for_status().json()["data"][0]["id"]
            for prompt in PROMPTS:
                answers = {await self._text(prompt) for _ in range(2)}
                if len(answers) > 1:
                    raise NotAskable(f"with temperature 0 it gives two answers to {prompt!r}")
                (self.alone[prompt],) = answers
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status in (401, 403):
                raise NotAskable(f"it answers {status}: set OPENAI_API_KEY to one of its keys") from error
            raise NotAskable(f"it answers {status} to {error.request.method} {error.request.url.path}") from error
        except (httpx.HTTPError, LookupError, TypeError, ValueError) as error:
            raise NotAskable(f"it does not answer as OpenAI's API does: {error}") from error

    async def client(self) -> None:
        """Ask again and again, each time in another way."""
        while not self.over.is_set():
            await self._ask(self.random.choice(KINDS), self.random.choice(PROMPTS))

    async def _ask(self, kind: str, prompt: str) -> None:
        """Whatever comes of it is counted."""
        try:
            await getattr(self, f"_{kind}")(prompt)
        except httpx.DecodingError:
            self.counts[WRONG] += 1
        except (httpx.ConnectError, httpx.ConnectTimeout):
            self.counts[NOBODY] += 1
            await asyncio.sleep(PAUSE_S)
        except httpx.TimeoutException:  # nobody was told anything
            self.counts[SILENT] += 1
        except httpx.TransportError:
            self.counts[TOLD] += 1
            await asyncio.sleep(PAUSE_S)

    async def break_things(self, pids: Sequence[int], seconds: float) -> None:
        """Stop, continue and kill each in turn, evenly over the time."""
        for pid in pids:
            for number in (signal.SIGSTOP, signal.SIGKILL):
                await asyncio.sleep(seconds / (2 * len(pids) + 1))
                await self._fault(pid, number)

    async def _fault(self, pid: int, number: signal.Signals) -> None:
        try:
            process = psutil.Process(pid)
            process.send_signal(number)
        except psutil.Error:
            self.recoveries.append(
                f"{pid} was gone before it could be {'stopped' if number is signal.SIGSTOP else 'killed'}"
            )
            return
        if number is signal.SIGSTOP:
            await asyncio.sleep(STOPPED_S)
            with suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)
        began = time.monotonic()
        while time.monotonic() - began < RECOVERY_LIMIT_S:
            with suppress(httpx.HTTPError, ValueError):
                if await self._text(PROMPTS[0]) == self.alone[PROMPTS[0]]:
                    what = f"after {STOPPED_S:g} s stopped" if number is signal.SIGSTOP else "after a kill"
                    self.recoveries.append(f"{time.monotonic() - began:.1f} s {what}")
                    return
            await asyncio.sleep(0.1)
        self.recoveries.append(f"none within {RECOVERY_LIMIT_S:g} s")
        self.over.set()

    async def _text(self, prompt: str) -> str:
        response = await self.http.post("/v1/chat/completions", json=self._body(prompt))
        return _whole_text(response.raise_for_status().content)

    def _body(self, prompt: str, **fields: object) -> dict[str, object]:
        asked = {"model": self.model, "messages": [{"role": "user", "content": prompt}]}
        return {**asked, "max_tokens": TOKENS, "temperature": 0, **fields}

    async def _whole(self, prompt: str) -> None:
        response = await self.http.post("/v1/chat/completions", json=self._body(prompt))
        if await self._refused(response):
            return
        try:
            self._compare(_whole_text(response.content), prompt)
        except ValueError:
            self.counts[WRONG] += 1

    async def _chat(self, prompt: str, pause_s: float = 0) -> None:
        await self._stream("/v1/chat/completions", self._body(prompt, stream=True), prompt, pause_s)

    async def _completion(self, prompt: str) -> None:
        """Its answer is another than a chat's: only its end is judged."""
        body = {"model": self.model, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "stream": True}
        await self._stream("/v1/completions", body, None)

    async def _slow(self, prompt: str) -> None:
        await self._chat(prompt, 0.02)

    async def _crowd(self, prompt: str) -> None:
        await asyncio.gather(*(self._ask("chat", prompt) for _ in range(CROWD)))

    async def _leaves(self, prompt: str) -> None:
        body = self._body(prompt, stream=True)
        async with self.http.stream("POST", "/v1/chat/completions", json=body) as response:
            async for _ in response.aiter_raw():
                if self.random.random() < 0.2:
                    break
        self.counts["left by the client"] += 1

    async def _bad(self, prompt: str) -> None:
        """Half a body: a client's fault, of which it must be told so."""
        response = await self.http.post("/v1/chat/completions", content='{"model": ' + prompt, headers=JSON)
        self.counts["refused for nonsense"] += 1
        self.counts[ERRORS] += response.status_code not in (400, 422, 429, 503)

    async def _stream(self, path: str, body: dict[str, object], prompt: str | None, pause_s: float = 0) -> None:
        text, ended, told = "", False, False
        async with self.http.stream("POST", path, json=body) as response:
            if await self._refused(response):
                return
            async for name, value in _fields(response):
                await asyncio.sleep(pause_s)
                told |= name == b"error" or (name, value) == (b"event", b"error")
                if name != b"data":
                    continue
                if value == b"[DONE]":
                    ended = True
                    continue
                try:
                    chunk = _Chunk.model_validate_json(value)
                except ValueError:
                    self.counts[WRONG] += 1
                    return
                told |= chunk.error is not None
                text += "".join(choice.text + (choice.delta.content or "") for choice in chunk.choices)
        if told:
            self.counts[TOLD] += 1
            self.counts[WRONG] += prompt is not None and not self.alone[prompt].startswith(text)
        elif not ended:
            self.counts[SILENT] += 1
        elif prompt is None:
            self.counts["whole answers"] += 1
        else:
            self._compare(text, prompt)

    def _compare(self, text: str, prompt: str) -> None:
        """A text that came as if it were all."""
        alone = self.alone[prompt]
        if text == alone:
            self.counts["whole answers"] += 1
        else:
            self.counts[SILENT if alone.startswith(text) else WRONG] += 1

    async def _refused(self, response: httpx.Response) -> bool:
        if response.status_code == 200:
            return False
        await response.aread()
        self.counts[AGAIN if response.status_code in (429, 503) else ERRORS] += 1
        await asyncio.sleep(PAUSE_S)
        return True

    def rows(self) -> dict[str, object]:
        """What the table says of the run."""
        found: dict[str, object] = {name: n for name, n in sorted(self.counts.items()) if name not in MUST_BE_ZERO}
        found |= {name: self.counts[name] for name in MUST_BE_ZERO}
        return found | {"recovery": "; ".join(self.recoveries) or "nothing was broken"}


JSON = {"content-type": "application/json"}


def _whole_text(body: bytes) -> str:
    """Raises ValueError for what is no chat completion."""
    try:
        return _Whole.model_validate_json(body).choices[0].message.content
    except ValueError:
        raise ValueError("a body with status 200 is no chat completion") from None


async def _fields(response: httpx.Response) -> AsyncIterator[tuple[bytes, bytes]]:
    """The names and values of a stream's fields: the space after the colon may be missing, by the HTML standard.

    httpx's own lines end at U+2028 and others, too, which JSON may have within its strings.
    """
    rest = b""
    async for piece in response.aiter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield _field(line)
    # Half a line is no field, and no wrong byte: the stream was cut there.
    if _field(rest) == (b"data", b"[DONE]"):
        yield _field(rest)


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.removesuffix(b"\r").partition(b":")
    return name, value.removeprefix(b" ")


async def run(http: httpx.AsyncClient, seconds: float, streams: int, seed: int, pids: Sequence[int] = ()) -> Storm:
    """Let it storm for so long, with so many clients at once. Raises NotAskable."""
    storm = Storm(http, random.Random(seed))
    await storm.ask_alone()
    clients = [asyncio.create_task(storm.client()) for _ in range(streams)]
    breaking = asyncio.create_task(storm.break_things(pids, seconds))
    await asyncio.wait([*clients, breaking], timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    await breaking
    storm.over.set()
    await asyncio.gather(*clients)
    return storm
