"""A source of tokens that plays a script, a tokenizer of made-up tokens, and an observer that remembers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bento_trtllm.generation.admission import Admission
from bento_trtllm.generation.deadlines import Deadlines, Watch
from bento_trtllm.generation.engine_profile import EngineProfile
from bento_trtllm.generation.generator import Generator
from bento_trtllm.generation.parameters import GenerationRequest, Sampling
from bento_trtllm.generation.slots import OwnSlots
from bento_trtllm.generation.source import TokenBatch, TokenRequest
from bento_trtllm.text.detokenizer import Detokenizer

END, OTHER_END = 256, 257
"""End tokens, without text; the tokens before them are single bytes."""
CONTEXT = 4096
LONG = Deadlines(1000, 1000, 10_000)


@dataclass(frozen=True)
class Wait:
    """So many seconds in which no token comes."""

    seconds: float


Step = bytes | Sequence[int] | TokenBatch | Wait | Exception
"""Bytes are a batch of a token each; an exception is raised; after the last step the answer is over."""


class ByteTokenizer:
    """A token for each byte, two end tokens, and further tokens of any bytes, as they are asked for."""

    def __init__(self) -> None:
        self._bytes = [bytes([i]) for i in range(256)] + [b"", b""]

    def token(self, text: bytes) -> int:
        """A token of these bytes."""
        if text not in self._bytes[OTHER_END:]:
            self._bytes.append(text)
        return self._bytes.index(text, OTHER_END)

    def count(self, text: str) -> int:
        return len(text.encode())

    def ids(self, text: str) -> Sequence[int]:
        return list(text.encode())

    def control(self, name: str) -> int | None:
        return {"<end>": END, "<other_end>": OTHER_END}.get(name)

    def token_bytes(self, token: int, *, named: bool = False) -> bytes:
        return self._bytes[token]

    def detokenizer(self, *, named: bool = False) -> Detokenizer:
        return Detokenizer(self._bytes)


class ScriptedSource:
    """Plays a script for each request: the same for all, or one by the request."""

    def __init__(self, *script: Step, choose: Callable[[TokenRequest], Sequence[Step]] | None = None) -> None:
        self._choose = choose or (lambda request: script)
        self.requests: list[TokenRequest] = []
        self.began: list[float | None] = []
        self.open = 0
        self.most_open = 0
        self.left_early = 0
        self.given = 0
        """Batches handed out."""

    @asynccontextmanager
    async def stream(
        self, request: TokenRequest, deadlines: Deadlines, began: float | None = None
    ) -> AsyncIterator[AsyncIterator[TokenBatch]]:
        """As the real one: deadlines by a Watch, and leaving the context ends the request."""
        self.requests.append(request)
        self.began.append(began)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        stop = asyncio.Event()
        watch = Watch(stop.set, deadlines, began)
        over: list[bool] = []
        try:
            yield self._play(self._choose(request), watch, stop, over)
        finally:
            watch.stop()
            self.open -= 1
            self.left_early += not over

    async def _play(
        self, script: Sequence[Step], watch: Watch, stop: asyncio.Event, over: list[bool]
    ) -> AsyncIterator[TokenBatch]:
        for step in script:
            if isinstance(step, Wait):
                try:
                    await asyncio.wait_for(stop.wait(), step.seconds)
                except asyncio.TimeoutError:
                    continue
                raise watch.why("It was cancelled.")
            await asyncio.sleep(0)
            if isinstance(step, Exception):
                raise step
            watch.progressed()
            self.given += 1
            yield step if isinstance(step, TokenBatch) else TokenBatch(list(step))
        over.append(True)


@dataclass
class Seen:
    """What an observer was told of one stream."""

    prompt_tokens: int
    trace: tuple[tuple[str, str], ...] = ()
    admitted_times: int = 0
    batches: list[int] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)

    def admitted(self) -> None:
        assert not self.outcomes
        self.admitted_times += 1

    def arrived(self, tokens: int) -> None:
        assert self.admitted_times == 1 and not self.outcomes
        self.batches.append(tokens)

    def ended(self, outcome: str) -> None:
        self.outcomes.append(outcome)


@dataclass
class Recorder:
    """An observer."""

    streams: list[Seen] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def began(self, request: GenerationRequest) -> Seen:
        self.streams.append(Seen(len(request.input_ids)))
        return self.streams[-1]

    def refused(self, kind: str) -> None:
        self.refusals.append(kind)

    @property
    def outcomes(self) -> list[str]:
        """How each stream ended; each must have, and once."""
        assert all(len(seen.outcomes) == 1 for seen in self.streams), self.streams
        return [seen.outcomes[0] for seen in self.streams]


class Stage:
    """A generator on a scripted source, with all that is around it."""

    def __init__(
        self,
        source: ScriptedSource,
        *,
        running: int = 4,
        waiting: int = 4,
        deadlines: Deadlines = LONG,
        profile: EngineProfile | None = None,
    ) -> None:
        self.source = source
        self.tokenizer = ByteTokenizer()
        self.admission = Admission(OwnSlots(running), waiting)
        self.observer = Recorder()
        self.generator = Generator(
            profile or EngineProfile(OTHER_END + 1, CONTEXT, (END, OTHER_END), CONTEXT - 1, guided=True),
            self.tokenizer,
            lambda: source,
            self.admission,
            deadlines,
            self.observer,
        )

    def check_nothing_is_held(self) -> None:
        """No slot, no place in line, no timer, no request in the engine; and the observer knows how each stream ended.

        Timers are looked up in asyncio's own heap (base_events.py, CPython 3.10 to 3.12).
        """
        timers: list[asyncio.TimerHandle] = getattr(asyncio.get_running_loop(), "_scheduled")  # noqa: B009
        assert [timer for timer in timers if not timer.cancelled()] == []
        assert (self.admission.running, self.admission.waiting, self.source.open) == (0, 0, 0)
        assert self.observer.outcomes is not None


def ask(prompt: str = "Hi", max_tokens: int = 100, **sampling: Any) -> GenerationRequest:
    """A request."""
    return GenerationRequest(list(prompt.encode()), max_tokens, Sampling(**sampling))
