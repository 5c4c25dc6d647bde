"""Every answer is the one that its question gets alone, whoever else asks."""

import asyncio
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection

import httpx

from soak.asking import Cut, ServerError, Told, ask, leave
from soak.margin import Margin
from soak.questions import Question
from tests.support.serving import Service

# The share of clients that leave before the end.
LEAVING = 0.2
# Seconds after which a client that has seen nothing yet may leave, and pieces of text after which one may.
AT_ONCE_S, FEW_PIECES = 0.05, 3
AGAIN_S = 0.2
LIMIT_S = 120
WRONG, CUTS, ERRORS = "WRONG ANSWERS", "SILENT CUTS", "SERVER ERRORS"
MUST_BE_ZERO = (WRONG, CUTS, ERRORS)
ROUNDED = "of them decided by rounding"
# Differences in log probability (natural logarithm) from which on rounding is no excuse; 0: there is none. In bf16 the
# largest logits, 16 to 32, have steps of 0.125; with a u8 KV cache 0.0062 was the largest seen.
DECISIVE = {"f32": 0.0, "bf16": 0.125, "u8": 0.05}


class Alike:
    """The answer that each question got alone, and what was counted among others.

    `decisive` is the difference in log probability from which on rounding is no excuse for another answer, 0 for none.
    """

    def __init__(
        self, service: Service, questions: list[Question], margin: Margin, *, decisive: float, seed: int
    ) -> None:
        self.service = service
        self.counts: Counter[str] = Counter(dict.fromkeys(MUST_BE_ZERO, 0))
        self.largest_margin = 0.0
        self.alone: dict[Question, tuple[str, ...]] = {}
        self._questions = questions
        self._margin = margin
        self._decisive = decisive
        self._random = random.Random(seed)
        self._compared = 0

    async def ask_alone(self) -> None:
        """Ask each question with nobody else there."""
        async with httpx.AsyncClient(base_url=self.service.url, timeout=LIMIT_S) as http:
            for question in self._questions:
                self.alone[question] = await ask(http, question, streamed=False)

    async def ask_among(self, answers: int, streams: int, restarts: int, kinds: Collection[str] = ()) -> None:
        """Compare this many more answers, asked in any order, from so many clients at once, over restarts.

        Until there is a count of each of these kinds, too, or LIMIT_S have passed: what is asked for is chance.
        """
        wanted = range(self._compared, self._compared + answers)
        limits, began = httpx.Limits(max_connections=streams), time.monotonic()

        def enough() -> bool:
            seen = all(self.counts[kind] for kind in kinds) or time.monotonic() - began > LIMIT_S
            return seen and self._compared >= wanted.stop

        async with httpx.AsyncClient(base_url=self.service.url, timeout=LIMIT_S, limits=limits) as http:
            clients = [asyncio.create_task(self._client(http, enough)) for _ in range(streams)]
            for i in range(restarts):
                while self._compared < wanted[answers * (i + 1) // (restarts + 1)] and not all(
                    c.done() for c in clients
                ):
                    await asyncio.sleep(0.02)
                await asyncio.to_thread(self._restart, i)
            await asyncio.gather(*clients)
        self.counts["seconds, without those of asking alone"] += round(time.monotonic() - began)

    def rows(self) -> dict[str, object]:
        """What the table says of a run."""
        found: dict[str, object] = dict(sorted(self.counts.items()))
        if self.counts[ROUNDED]:
            found["largest margin of those"] = f"{self.largest_margin:.2g}"
        return found | {name: self.counts[name] for name in MUST_BE_ZERO}

    async def _client(self, http: httpx.AsyncClient, enough: Callable[[], bool]) -> None:
        """Ask until it is enough, each time in another way."""
        while not enough():
            question = self._random.choice(self._questions)
            try:
                if self._random.random() < LEAVING:
                    await self._leave(http, question)
                else:
                    await self._stay(http, question)
            except Told:
                self.counts["told to come again, or broken off"] += 1
                await asyncio.sleep(AGAIN_S)
            except Cut:
                self.counts[CUTS] += 1
            except ServerError as error:
                self.counts[ERRORS] += 1
                print(f"{question.route}: {error}", file=sys.stderr)

    async def _stay(self, http: httpx.AsyncClient, question: Question) -> None:
        streamed = self._random.random() < 0.5
        got = await ask(http, question, streamed=streamed)
        self._compared += len(got)
        self.counts["answers compared"] += len(got)
        self.counts[f"of them {question.route}, {'streamed' if streamed else 'whole'}"] += len(got)
        self.counts["of them beside others in one request"] += len(got) if len(got) > 1 else 0
        self.counts["of them guided"] += len(got) if question.guided else 0
        for i, (text, alone) in enumerate(zip(got, self.alone[question], strict=True)):
            if text != alone:
                self._judge(question, i, text, alone)

    async def _leave(self, http: httpx.AsyncClient, question: Question) -> None:
        """A client that goes, whether the prompt is still read or the answer has begun."""
        try:
            if self._random.random() < 0.5:
                got = await leave(http, question, self._random.randint(1, FEW_PIECES))
            else:
                got = await asyncio.wait_for(leave(http, question, 10**6), self._random.random() * AT_ONCE_S)
        except asyncio.TimeoutError:
            self.counts["clients that left before an answer"] += 1
            return
        self.counts["beginnings compared, of clients that left"] += len(got)
        for i, (text, alone) in enumerate(zip(got, self.alone[question], strict=True)):
            if not alone.startswith(text):
                self._judge(question, i, text, alone)

    def _judge(self, question: Question, index: int, text: str, alone: str) -> None:
        """Count an answer that differs as wrong, or as decided by rounding."""
        prompt = question.prompts[index]
        margin = self._margin.between(prompt, alone, text)
        if margin < self._decisive:
            self.counts[ROUNDED] += 1
            self.largest_margin = max(self.largest_margin, margin)
            return
        self.counts[WRONG] += 1
        print(f"{question.route}, {len(prompt)} tokens, margin {margin:.2g}: {text!r} for {alone!r}", file=sys.stderr)

    def _restart(self, number: int) -> None:
        """Kill the engine's process or all of Triton, and wait until there is another."""
        before = [*self.service.tritons(), self.service.engine()]
        victim = before[number % 2]
        victim.send_signal(signal.SIGKILL)
        self.counts["tritonserver killed" if number % 2 == 0 else "engine killed"] += 1
        victim.wait(LIMIT_S)
        deadline = time.monotonic() + LIMIT_S
        # The service is ready for a moment more, until it has noticed.
        while any(process.is_running() for process in before) and time.monotonic() < deadline:
            time.sleep(0.02)
        while not self.service.tritons() and time.monotonic() < deadline:
            time.sleep(0.02)
        self.service.wait_ready(LIMIT_S)
