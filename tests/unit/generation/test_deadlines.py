"""The watch of one stream: when it ends a call, for which reason, and whom it suspects. On a clock that jumps."""

import asyncio

import pytest

from bento_trtllm.generation.deadlines import Deadlines, Watch
from bento_trtllm.generation.errors import EngineTimeout, EngineUnavailable
from tests.support.virtual_time import in_virtual_time, run

LIMITS = Deadlines(first_token_s=10, between_tokens_s=5, whole_s=30)


class Watched:
    """A watch, and when it cancelled and suspected."""

    def __init__(self, limits: Deadlines = LIMITS, began: float | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.cancelled: list[float] = []
        self.suspected: list[float] = []
        self.watch = Watch(
            lambda: self.cancelled.append(self.loop.time()),
            limits,
            began,
            lambda: self.suspected.append(self.loop.time()),
        )


@pytest.mark.parametrize(
    ("tokens_at", "ends_at", "said", "suspects"),
    [
        ([], 10, "The engine gave no first token within 10 s.", True),
        ([9], 14, "The engine gave no further token within 5 s.", True),
        ([1, 2, 3], 8, "The engine gave no further token within 5 s.", True),
        ([9, 13, 17, 21], 26, "The engine gave no further token within 5 s.", True),
        ([*range(1, 30)], 30, "The answer was not complete after 30 s.", False),
        ([9, 13, 17, 21, 25, 29.5], 30, "The answer was not complete after 30 s.", False),
    ],
)
def test_when_a_call_is_cancelled(tokens_at: list[float], ends_at: float, said: str, suspects: bool) -> None:
    async def main() -> None:
        watched = Watched()
        for at in tokens_at:
            watched.loop.call_at(at, watched.watch.progressed)
        await asyncio.sleep(100)
        assert watched.cancelled == pytest.approx([ends_at])
        assert watched.suspected == (watched.cancelled if suspects else [])
        why = watched.watch.why("otherwise")
        assert isinstance(why, EngineTimeout)
        assert str(why) == said

    run(main())


@pytest.mark.parametrize("began", [-9, -4, 0])
def test_the_first_token_is_due_since_the_request_began(began: float) -> None:
    async def main() -> None:
        watched = Watched(began=began)
        await asyncio.sleep(100)
        assert watched.cancelled == [began + 10]

    run(main())


@in_virtual_time
async def test_a_stream_that_was_late_from_the_start_is_cancelled_in_the_next_turn() -> None:
    await asyncio.sleep(50)
    watched = Watched(began=1)
    await asyncio.sleep(0.001)
    assert watched.cancelled == [50]


@in_virtual_time
async def test_the_whole_may_be_less_than_a_first_token_has() -> None:
    watched = Watched(Deadlines(100, 100, 7))
    await asyncio.sleep(1000)
    assert watched.cancelled == [7]
    assert "not complete after 7 s" in str(watched.watch.why(""))


@in_virtual_time
async def test_a_watch_that_is_stopped_rings_no_more() -> None:
    watched = Watched()
    watched.loop.call_at(3, watched.watch.progressed)
    watched.loop.call_at(7, watched.watch.stop)
    await asyncio.sleep(100)
    assert (watched.cancelled, watched.suspected) == ([], [])


@in_virtual_time
async def test_the_first_reason_counts() -> None:
    watched = Watched()
    first = EngineUnavailable("It was stopped.")
    watched.watch.expire(first)
    watched.watch.expire(EngineUnavailable("Something else."))
    await asyncio.sleep(100)
    assert watched.cancelled == [0]
    assert watched.watch.why("otherwise") is first


@in_virtual_time
async def test_without_a_reason_of_its_own_the_engine_is_gone() -> None:
    why = Watched().watch.why("The engine stopped answering.")
    assert isinstance(why, EngineUnavailable)
    assert str(why) == "The engine stopped answering."


@in_virtual_time
async def test_tokens_set_no_timer_each() -> None:
    """Thousands a second come, and a timer of each would be in the loop's heap until it is due."""
    watched = Watched(Deadlines(10, 5, 10_000))
    made = 0
    call_at = watched.loop.call_at

    def counted(*args: object, **options: object) -> asyncio.TimerHandle:
        nonlocal made
        made += 1
        return call_at(*args, **options)  # type: ignore[arg-type]

    watched.loop.call_at = counted  # type: ignore[method-assign]
    for _ in range(10_000):
        watched.watch.progressed()
    assert made == 1
    assert watched.watch.heard_at == 0
