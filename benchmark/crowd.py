"""A process of clients that ask one after another: `python -m benchmark.crowd` reads a Crowd, writes what came of it.

They are polite: one that is refused asks again after as long as it was told. They come from several addresses of the
loopback network, as those of a service do.
"""

import asyncio
import json
import random
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from benchmark.http_stream import Connection, request

AFTER = re.compile(rb"retry-after: (\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Crowd:
    """So many clients on so many addresses, for so long, with answers of `least` to `most` tokens.

    What comes in the first `warm_s` is not counted: until then answers that were begun before are missing.
    """

    http: str
    clients: int
    addresses: int
    first_address: int
    seconds: float
    warm_s: float
    prompt: str
    least: int
    most: int
    seed: int = 0


@dataclass
class Came:
    """What came of it. Times are in seconds."""

    tokens: int = 0
    """Of answers that became whole within the time that counts."""
    answers: list[float] = field(default_factory=list)
    """How long whole answers took, refusals before them included."""
    refused: int = 0
    errors: list[str] = field(default_factory=list)


class Client:
    """One client, on a connection that it makes again when it is closed."""

    def __init__(self, crowd: Crowd, address: str, came: Came, until: float) -> None:
        self._crowd = crowd
        self._address = address
        self._came = came
        self._until = until
        self._connection: Connection | None = None

    async def run(self, lengths: Iterator[int]) -> None:
        """Ask until the time is over."""
        while time.monotonic() < self._until:
            tokens, began = next(lengths), time.monotonic()
            while not await self._ask(tokens):
                if time.monotonic() >= self._until:
                    return
            if self._until - self._crowd.seconds + self._crowd.warm_s <= time.monotonic() < self._until:
                self._came.tokens += tokens
                self._came.answers.append(time.monotonic() - began)

    async def _ask(self, tokens: int) -> bool:
        """Whether there was a whole answer; if not, it is time to ask again."""
        body = {"prompt": self._crowd.prompt, "max_tokens": tokens}
        connection = self._connection or await self._connect()
        try:
            await connection.ask(request(self._crowd.http, "/generate", body, "text/event-stream"))
        except ConnectionError as error:
            connection.close()
            self._connection = None
            if connection.status not in (0, 429, 503):
                self._came.errors.append(str(error))
            self._came.refused += 1
            told = AFTER.search(connection.head)
            await asyncio.sleep(min(int(told[1]) if told else 1, max(0.0, self._until - time.monotonic())))
            return False
        if connection.completion_tokens != tokens:
            self._came.errors.append(f"{connection.completion_tokens} of {tokens} tokens came")
        return True

    async def _connect(self) -> Connection:
        host, _, port = self._crowd.http.rpartition(":")
        loop = asyncio.get_running_loop()
        _, self._connection = await loop.create_connection(Connection, host, int(port), local_addr=(self._address, 0))
        return self._connection


async def put_on(crowd: Crowd) -> Came:
    """The clients begin within a second, and have until the end of the time."""
    came = Came()
    chance = random.Random(crowd.seed)
    until = time.monotonic() + crowd.seconds

    async def one(number: int) -> None:
        lengths = iter(lambda: chance.randint(crowd.least, crowd.most), None)
        await asyncio.sleep(number / crowd.clients)
        address = f"127.0.0.{crowd.first_address + number % crowd.addresses}"
        await Client(crowd, address, came, until).run(lengths)

    tasks = [asyncio.create_task(one(number)) for number in range(crowd.clients)]
    done, late = await asyncio.wait(tasks, timeout=crowd.seconds + 0.5)
    for task in late:
        task.cancel()
    came.errors += [repr(task.exception()) for task in done if task.exception()]
    return came


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(put_on(Crowd(**json.loads(sys.stdin.readline())))))), flush=True)
