"""No request holds a worker's event loop: all that is done with a body before it goes to the engine, in this process.

What a hold takes is counted in CPU time of the process, so that a busy machine changes nothing.
"""

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from bento_trtllm.api import threads
from bento_trtllm.api.asgi import App
from bento_trtllm.api.bodies import DecodedBodies
from bento_trtllm.api.model import ServedModel
from bento_trtllm.api.tools.formats import LLAMA3
from bento_trtllm.api.web import web_app
from bento_trtllm.bento import garbage
from bento_trtllm.generation.errors import EngineUnavailable
from bento_trtllm.manifest import Manifest
from bento_trtllm.swap.visits import Visits
from bento_trtllm.text.defaults import Defaults
from bento_trtllm.text.template import ChatTemplate
from bento_trtllm.text.tokenizer import PromptTokenizer
from tests.support.heavy import ABUSE
from tests.support.served import Served
from tests.support.verdict import best_within

pytestmark = pytest.mark.slow

DEMO = Path(__file__).parents[2] / "assets" / "demo-llama"
HOLD_LIMIT_S, ROUNDS = 0.05, 10
# As long as Llama 3.1's, so that texts are read and not refused by their length.
CONTEXT = 131_072


class NoEngine:
    """Where the engine would be."""

    async def stream(self, *_: Any) -> AsyncIterator[None]:
        raise EngineUnavailable("There is no engine here.")
        yield


@pytest.fixture(scope="module")
def app() -> Iterator[DecodedBodies]:
    tokenizer = PromptTokenizer(DEMO, CONTEXT)
    manifest = Manifest(
        engine="openvino",
        precision="f16",
        source=str(DEMO),
        revision=None,
        checksum=None,
        architecture="LlamaForCausalLM",
        parameters=1,
        dtype="float32",
        vocab_size=2560,
        context_length=CONTEXT,
        bos_id=None,
        eos_ids=[1],
        versions={},
    )
    application = web_app()
    model = SimpleNamespace(
        name="demo-llama",
        tag="demo-llama:test",
        created=0,
        manifest=manifest,
        proof=None,
        tokenizer=tokenizer,
        template=ChatTemplate(DEMO, tokenizer),
        generator=NoEngine(),
        defaults=Defaults.read(DEMO),
        tool_format=LLAMA3,
        thinks=False,
        kind="models",
        variants={},
    )
    application.state.serving = Served(cast(ServedModel, model))
    # As in a worker: else the collector walks over all that these tests have.
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    threads.take_short_turns()
    garbage.settle()
    yield DecodedBodies(cast(App, Visits(cast(App, application), state=application.state)))
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)


async def longest_hold(app: DecodedBodies, body: bytes) -> tuple[int, float]:
    """The status of an answer, and the most CPU time that went by between two turns of another task, in seconds."""
    longest = 0.0
    ended = False

    async def beat() -> None:
        nonlocal longest
        last = time.process_time()
        while not ended:
            await asyncio.sleep(0.001)
            now = time.process_time()
            longest, last = max(longest, now - last), now

    beats = asyncio.create_task(beat())
    await asyncio.sleep(0.01)
    longest = 0.0
    async with httpx.AsyncClient(transport=httpx.ASGITransport(cast(Any, app)), base_url="http://test") as client:
        headers = {"content-type": "application/json"}
        response = await client.post("/v1/chat/completions", content=body, headers=headers)
    ended = True
    await beats
    return response.status_code, longest


@pytest.mark.parametrize("name", ABUSE)
def test_no_body_holds_the_loop(app: DecodedBodies, name: str) -> None:
    body, statuses = ABUSE[name]

    def hold() -> float:
        status, longest = asyncio.run(longest_hold(app, body()))
        # Without an engine, what would be answered is a 503; and this context is longer than the demo model's.
        assert status in statuses | {503}
        return longest

    # A hold of the code's own is there each time; the least leaves out when a thread beside it got the loop's core.
    free, holds = best_within(HOLD_LIMIT_S, hold, ROUNDS)
    assert free, [f"{each * 1e3:.0f} ms" for each in holds]
