"""Several answers side by side: each in its order, all over when the first fails or the client leaves."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from bento_trtllm.generation.errors import EngineUnavailable, QueueFull
from bento_trtllm.generation.fan_out import ChoiceEvent, fan_out, repeat
from bento_trtllm.generation.results import Finish, TextDelta, TokenCounts
from bento_trtllm.generation.source import TokenRequest
from tests.support.scripted_source import END, ScriptedSource, Stage, Step, Wait, ask
from tests.support.virtual_time import cancel_at, in_virtual_time, run


def by_length(*scripts: Sequence[Step]) -> ScriptedSource:
    """A script for each answer: the first is asked for 10 tokens, the next for 11, and so on."""
    return ScriptedSource(choose=lambda request: scripts[request.max_tokens - 10])


async def collect(stage: Stage, n: int) -> list[ChoiceEvent]:
    return [event async for event in fan_out(stage.generator, [ask(max_tokens=10 + i) for i in range(n)])]


def text_of(events: list[ChoiceEvent], choice: int) -> str:
    return "".join(item.text for i, item in events if i == choice and isinstance(item, TextDelta))


@pytest.mark.parametrize("n", [1, 2, 3, 16])
def test_each_answer_is_whole_and_in_order(n: int) -> None:
    async def main() -> None:
        scripts = [[step for c in f"{i} of {n}" for step in (Wait(i + 1), c.encode())] for i in range(n)]
        stage = Stage(by_length(*scripts), running=n)
        events = await collect(stage, n)
        for i in range(n):
            assert text_of(events, i) == f"{i} of {n}"
            own = [item for choice, item in events if choice == i]
            assert [isinstance(item, Finish) for item in own] == [False] * (len(own) - 1) + [True]
        assert sorted(i for i, item in events if isinstance(item, Finish)) == list(range(n))
        assert stage.observer.outcomes == ["stop"] * n
        stage.check_nothing_is_held()

    run(main())


@in_virtual_time
async def test_items_come_in_the_order_in_which_the_engine_makes_them() -> None:
    stage = Stage(by_length((Wait(1), b"a", Wait(4), b"d"), (Wait(2), b"b", Wait(1), b"c", Wait(3), b"e")))
    loop = asyncio.get_running_loop()
    seen = []
    async for i, item in fan_out(stage.generator, [ask(max_tokens=10), ask(max_tokens=11)]):
        if isinstance(item, TextDelta):
            seen.append((i, item.text, loop.time()))
    assert seen == [(0, "a", 1), (1, "b", 2), (1, "c", 3), (0, "d", 5), (1, "e", 6)]


@in_virtual_time
async def test_a_slow_answer_keeps_no_other_waiting() -> None:
    stage = Stage(by_length((Wait(900), b"slow", [END]), (b"fast", [END])))
    loop = asyncio.get_running_loop()
    ends = {}
    async for i, item in fan_out(stage.generator, [ask(max_tokens=10), ask(max_tokens=11)]):
        if isinstance(item, Finish):
            ends[i] = loop.time()
    assert ends == {1: 0, 0: 900}


@pytest.mark.parametrize("failing", range(3))
@pytest.mark.parametrize("after_s", [0, 1, 5])
def test_the_first_error_ends_all_at_once(failing: int, after_s: float) -> None:
    async def main() -> None:
        error = EngineUnavailable("Gone.")
        slow: tuple[Step, ...] = (b"x", Wait(100), b"y")
        scripts = [slow] * 3
        scripts[failing] = (b"x", Wait(after_s), error)
        stage = Stage(by_length(*scripts))
        seen = []
        with pytest.raises(EngineUnavailable) as raised:
            async for event in fan_out(stage.generator, [ask(max_tokens=10 + i) for i in range(3)]):
                seen.append(event)
        assert raised.value is error
        assert {i for i, _ in seen} == {0, 1, 2}
        assert asyncio.get_running_loop().time() == after_s
        stage.check_nothing_is_held()
        wanted = ["cancelled"] * 3
        wanted[failing] = "engine_unavailable"
        assert stage.observer.outcomes == wanted

    run(main())


@in_virtual_time
async def test_an_error_after_others_have_ended_is_raised_all_the_same() -> None:
    stage = Stage(by_length((b"a", [END]), (b"b", Wait(5), EngineUnavailable("Gone."))))
    seen = []
    with pytest.raises(EngineUnavailable):
        async for event in fan_out(stage.generator, [ask(max_tokens=10), ask(max_tokens=11)]):
            seen.append(event)
    assert text_of(seen, 0) == "a" and text_of(seen, 1) == "b"
    assert (0, Finish("stop", TokenCounts(2, 2))) in seen
    assert stage.observer.outcomes == ["stop", "engine_unavailable"]


@in_virtual_time
async def test_answers_without_a_slot_wait_for_those_that_have_one() -> None:
    stage = Stage(ScriptedSource(Wait(1), b"ab", [END]), running=2, waiting=8)
    events = await collect(stage, 6)
    assert [text_of(events, i) for i in range(6)] == ["ab"] * 6
    assert stage.source.most_open == 2
    assert asyncio.get_running_loop().time() == 3


@in_virtual_time
async def test_more_answers_than_the_line_holds_are_refused_as_one() -> None:
    stage = Stage(ScriptedSource(Wait(1), b"ab"), running=1, waiting=1)
    with pytest.raises(QueueFull):
        await collect(stage, 3)
    stage.check_nothing_is_held()
    assert sorted(stage.observer.outcomes) == ["cancelled", "cancelled", "overloaded"]


@pytest.mark.parametrize("items", range(7))
@pytest.mark.parametrize("n", [1, 3])
def test_a_client_that_leaves_after_any_item_ends_all(n: int, items: int) -> None:
    async def main() -> None:
        stage = Stage(ScriptedSource(b"a", Wait(1), b"b", Wait(1), b"c", Wait(9), b"d"), running=n)
        async with aclosing(fan_out(stage.generator, [ask() for _ in range(n)])) as events:
            for _ in range(min(items, 3 * n)):
                await anext(events)
        stage.check_nothing_is_held()
        # Those that had begun, and no other.
        assert stage.observer.outcomes == ["cancelled"] * (n if items else 0)
        assert stage.source.left_early == (n if items else 0)
        assert asyncio.get_running_loop().time() <= 2

    run(main())


FAN: dict[str, tuple[tuple[Step, ...], ...]] = {
    "one": ((b"a", Wait(1), b"b", [END]),),
    "three": ((b"a", Wait(1), b"b", [END]), (Wait(2), b"c"), (b"d", b"e", Wait(3), b"f")),
    "one of three fails": ((b"a", Wait(1), b"b"), (Wait(2), EngineUnavailable("Gone.")), (b"d", Wait(3), b"f")),
    "one of three is late": ((b"a",), (b"b", Wait(5000), b"c"), (b"d", Wait(1), b"e")),
}


@pytest.mark.parametrize("running", [1, 2, 3])
@pytest.mark.parametrize("scene", FAN)
def test_cancelled_at_any_await_all_answers_are_over(scene: str, running: int) -> None:
    scripts = FAN[scene]
    n = len(scripts)

    async def at(k: int) -> bool:
        stage = Stage(by_length(*scripts), running=running)

        async def client() -> None:
            try:
                await collect(stage, n)
            except Exception as error:
                assert "fails" in scene or "late" in scene, error

        cancelled = await cancel_at(client(), k)
        stage.check_nothing_is_held()
        possible = {"stop", "cancelled"}
        if "fails" in scene:
            possible.add("engine_unavailable")
        if "late" in scene:  # and who waits behind it is late, too
            possible |= {"timeout", "overloaded"}
        assert possible.issuperset(stage.observer.outcomes)
        return cancelled

    k = 0
    while run(at(k)):
        k += 1
    assert k >= 2


@in_virtual_time
async def test_a_slow_reader_gets_all_and_no_answer_waits_for_it() -> None:
    stage = Stage(ScriptedSource(b"a", b"b", b"c", [END]), running=3)
    events = []
    async for event in fan_out(stage.generator, [ask() for _ in range(3)]):
        await asyncio.sleep(100)
        events.append(event)
        assert stage.admission.running == 0  # all was made while the first item was read
    assert [text_of(events, i) for i in range(3)] == ["abc"] * 3


def test_the_same_request_n_times() -> None:
    request = ask()
    assert repeat(request, 3) == [request] * 3
    assert repeat(request, 1) == [request]


@pytest.mark.parametrize(("seed", "seeds"), [(7, [7, 8, 9]), (2**64 - 2, [2**64 - 2, 2**64 - 1, 0]), (0, [0, 1, 2])])
def test_a_seed_makes_each_answer_another_and_the_first_as_it_would_be_alone(seed: int, seeds: list[int]) -> None:
    repeated = repeat(ask(seed=seed, temperature=1.0), 3)
    assert [request.sampling.seed for request in repeated] == seeds
    assert {request.sampling.temperature for request in repeated} == {1.0}


@in_virtual_time
async def test_answers_without_a_seed_have_different_ones() -> None:
    stage = Stage(ScriptedSource(b"a"))
    asked = repeat(ask(temperature=1.0), 4)
    async for _ in fan_out(stage.generator, asked):
        pass
    seeds: list[TokenRequest] = stage.source.requests
    assert len({request.seed for request in seeds}) == 4
