"""Mixed traffic while things break: requests of every kind, and Triton, its engine or a worker killed or stopped.

Each text is compared, byte for byte, with what the model is known to answer.
"""

import asyncio
import json
import random
import signal
import sys
import time
from collections import Counter

import bentoml
import httpx
import psutil
from bentoml.exceptions import BentoMLException

from tests.support.demo import ANSWERS, PROMPT, SCRIPTS
from tests.support.serving import SSE, Service

PROMPTS = [*SCRIPTS.values(), PROMPT, "What is Triton?"]
KINDS = ("sse", "sse", "bare", "client", "chat", "whole", "leaves", "slow", "bad", "crowd")
BETWEEN_FAULTS_S = (8, 20)
# More than the stall limit.
NOTICED_S = 5
# More at once than the service takes: some are told to come again.
CROWD, RUNNING, WAITING = 40, 16, 16
SETTINGS = (
    "workers=2",
    "stall_limit_s=3",
    "restart_max_delay_s=5",
    f"max_running_requests={2 * RUNNING}",
    f"max_waiting_requests={2 * WAITING}",
)


class Soak:
    """One run: its traffic, its faults, its counts."""

    def __init__(self, service: Service, seed: int) -> None:
        self.service = service
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.memory: dict[int, list[float]] = {}
        """MB of each worker, by process id, again and again."""
        self.stop = asyncio.Event()

    async def client(self) -> None:
        """Ask again and again, each time in another way."""
        async with httpx.AsyncClient(
            base_url=self.service.url, timeout=90, limits=httpx.Limits(max_connections=CROWD)
        ) as http:
            while not self.stop.is_set():
                kind = self.random.choice(KINDS)
                try:
                    await getattr(self, f"ask_{kind}")(http, self.random.choice(PROMPTS))
                except (httpx.TransportError, BentoMLException):
                    self.counts["broken off, and told so"] += 1
                    await asyncio.sleep(0.2)

    async def ask_sse(self, http: httpx.AsyncClient, prompt: str) -> None:
        text, ending = "", ""
        async with http.stream("POST", "/generate", json={"prompt": prompt}, headers=SSE) as response:
            if response.status_code != 200:
                await self.refused(response)
                return
            async for line in response.aiter_lines():
                if line.startswith("event: error"):
                    ending = "error"
                elif line == "data: [DONE]":
                    ending = "done"
                elif line.startswith("data: ") and not ending:
                    text += json.loads(line.removeprefix("data: ")).get("text", "")
        self.ended(text, ending, prompt)

    async def ask_bare(self, http: httpx.AsyncClient, prompt: str) -> None:
        async with http.stream("POST", "/generate", json={"prompt": prompt}) as response:
            if response.status_code != 200:
                await self.refused(response)
                return
            text = b"".join([piece async for piece in response.aiter_raw()]).decode()
        self.whole(text, prompt)

    async def ask_client(self, http: httpx.AsyncClient, prompt: str) -> None:
        """BentoML's own client."""
        async with bentoml.AsyncHTTPClient(self.service.url) as client:
            try:
                text = "".join([piece async for piece in client.generate(prompt=prompt)])
            except BentoMLException as error:
                self.counts["told to come again" if error.error_code in (429, 503) else "SERVER ERRORS"] += 1
                await asyncio.sleep(0.3)
                return
        self.whole(text, prompt)

    async def ask_chat(self, http: httpx.AsyncClient, prompt: str) -> None:
        """OpenAI's API, streamed."""
        text, ending = "", ""
        async with http.stream("POST", "/v1/chat/completions", json=chat(prompt, stream=True)) as response:
            if response.status_code != 200:
                await self.refused(response)
                return
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    ending = ending or "done"
                elif line.startswith("data: "):
                    data = json.loads(line.removeprefix("data: "))
                    if "error" in data:
                        ending = "error"
                        continue
                    text += "".join(choice["delta"].get("content") or "" for choice in data["choices"])
        self.ended(text, ending, prompt)

    async def ask_whole(self, http: httpx.AsyncClient, prompt: str) -> None:
        """OpenAI's API, in one piece."""
        response = await http.post("/v1/chat/completions", json=chat(prompt))
        if response.status_code != 200:
            await self.refused(response)
            return
        self.whole(response.json()["choices"][0]["message"]["content"], prompt)

    async def ask_slow(self, http: httpx.AsyncClient, prompt: str) -> None:
        """Read as slowly as a person."""
        text, ending = "", ""
        async with http.stream("POST", "/generate", json={"prompt": prompt}, headers=SSE) as response:
            if response.status_code != 200:
                await self.refused(response)
                return
            async for line in response.aiter_lines():
                await asyncio.sleep(0.02)
                if line.startswith("event: error"):
                    ending = "error"
                elif line == "data: [DONE]":
                    ending = "done"
                elif line.startswith("data: ") and not ending:
                    text += json.loads(line.removeprefix("data: ")).get("text", "")
        self.ended(text, ending, prompt)

    async def ask_crowd(self, http: httpx.AsyncClient, prompt: str) -> None:
        """More at once than the service takes."""
        await asyncio.gather(*(self.ask_sse(http, prompt) for _ in range(CROWD)))

    async def ask_leaves(self, http: httpx.AsyncClient, prompt: str) -> None:
        async with http.stream("POST", "/generate", json={"prompt": prompt}, headers=SSE) as response:
            async for _ in response.aiter_raw():
                if self.random.random() < 0.2:
                    break
        self.counts["left by the client"] += 1

    async def ask_bad(self, http: httpx.AsyncClient, prompt: str) -> None:
        response = await http.post("/generate", content=b'{"max_tokens": ' + prompt.encode() + b"}", headers=JSON)
        self.counts["refused"] += 1
        if response.status_code not in (400, 429, 503) or "Traceback" in response.text:
            self.counts["SERVER ERRORS"] += 1

    async def refused(self, response: httpx.Response) -> None:
        await response.aread()
        self.counts["told to come again"] += 1
        if response.status_code not in (429, 503) or "retry-after" not in response.headers:
            self.counts["SERVER ERRORS"] += 1
        await asyncio.sleep(0.3)

    def ended(self, text: str, ending: str, prompt: str) -> None:
        """A stream that says how it ends."""
        if ending == "done":
            self.whole(text, prompt)
        elif ending == "error":
            self.counts["ended with an error event"] += 1
            self.counts["WRONG BYTES"] += not ANSWERS[prompt].startswith(text)
        else:
            self.counts["SILENT CUTS"] += 1

    def whole(self, text: str, prompt: str) -> None:
        """A text that came as if it were all."""
        self.counts["whole"] += 1
        if text != ANSWERS[prompt]:
            self.counts["SILENT CUTS" if ANSWERS[prompt].startswith(text) else "WRONG BYTES"] += 1
            print(f"not the answer to: {prompt}", file=sys.stderr)

    async def break_things(self) -> None:
        """One fault after another; each time the service must come back."""
        while not self.stop.is_set():
            try:
                await asyncio.wait_for(self.stop.wait(), self.random.uniform(*BETWEEN_FAULTS_S))
            except asyncio.TimeoutError:
                self.weigh()
                await asyncio.to_thread(self.fault)

    def fault(self) -> None:
        tritons = [p for p in self.family() if p.name() == "tritonserver"]
        engines = [p for p in self.family() if any("tensorrt_llm/1/model.py" in a for a in p.cmdline())]
        victims = {
            "tritonserver killed": tritons,
            "tritonserver stopped": tritons,
            "engine killed": engines,
            "engine stopped": engines,
            "worker killed": [p for p in self.family() if "_bentoml_impl.worker.service" in p.cmdline()],
        }
        # A worker must live for some time if its memory is to tell anything.
        (name,) = self.random.choices(list(victims), (2, 2, 2, 2, 1))
        for victim in self.random.sample(victims[name], min(1, len(victims[name]))):
            number = signal.SIGSTOP if name.endswith("stopped") else signal.SIGKILL
            try:
                victim.send_signal(number)
            except psutil.NoSuchProcess:
                return
            self.faults[name] += 1
        began = time.monotonic()
        # A worker that was killed may not have been the one that has Triton.
        while self.ready() and time.monotonic() - began < NOTICED_S:
            time.sleep(0.02)
        began = time.monotonic()
        try:
            self.service.wait_ready(60)
        except AssertionError:
            self.counts["NOT READY AGAIN"] += 1
        self.faults["longest time to be ready again, s"] = max(
            self.faults["longest time to be ready again, s"], round(time.monotonic() - began)
        )
        if len([p for p in self.family() if p.name() == "tritonserver"]) > 1:
            self.counts["SECOND TRITONS"] += 1

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.service.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def family(self) -> list[psutil.Process]:
        return list(self.service.process.children(recursive=True))

    def weigh(self) -> None:
        """Note what the workers have in memory; Triton's processes are new after each fault."""
        for process in self.family():
            try:
                if "_bentoml_impl.worker.service" in " ".join(process.cmdline()):
                    self.memory.setdefault(process.pid, []).append(process.memory_info().rss / 2**20)
            except psutil.NoSuchProcess:
                continue


def chat(prompt: str, stream: bool = False) -> dict[str, object]:
    return {"model": "demo-llama", "messages": [{"role": "user", "content": prompt}], "stream": stream}


JSON = {"content-type": "application/json"}
MUST_BE_ZERO = ("WRONG BYTES", "SILENT CUTS", "SERVER ERRORS", "NOT READY AGAIN", "SECOND TRITONS", "ORPHANS")


async def run(service: Service, minutes: float, streams: int, seed: int) -> Soak:
    """Let it storm for so long, with so many clients at once."""
    soak = Soak(service, seed)
    tasks = [asyncio.create_task(soak.client()) for _ in range(streams)]
    tasks.append(asyncio.create_task(soak.break_things()))
    await asyncio.wait(tasks, timeout=minutes * 60, return_when=asyncio.FIRST_EXCEPTION)
    soak.stop.set()
    await asyncio.gather(*tasks)
    return soak


def rows(soak: Soak) -> dict[str, object]:
    """What the table says of a run."""
    found: dict[str, object] = {**dict(sorted(soak.faults.items())), **dict(sorted(soak.counts.items()))}
    found |= {name: soak.counts[name] for name in MUST_BE_ZERO}
    lives = [life for life in soak.memory.values() if len(life) > 3]
    if lives:
        longest = max(lives, key=len)
        quarters = [longest[i * len(longest) // 4 : (i + 1) * len(longest) // 4] for i in range(4)]
        means = ", ".join(f"{sum(quarter) / len(quarter):.0f}" for quarter in quarters)
        found["memory of the worker that lived longest, mean of each quarter of its life, MB"] = means
    return found
