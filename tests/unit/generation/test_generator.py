"""One stream of text: its order, its end, and that whatever ends it leaves nothing behind. On a scripted source."""

import asyncio
from contextlib import aclosing, suppress

import pytest

from bento_trtllm.generation.deadlines import Deadlines
from bento_trtllm.generation.errors import (
    Draining,
    EngineTimeout,
    EngineUnavailable,
    GenerationError,
    InvalidRequest,
    QueueFull,
    RequestRefused,
    WaitedTooLong,
)
from bento_trtllm.generation.parameters import GenerationRequest
from bento_trtllm.generation.results import Finish, TextDelta, TokenCounts
from bento_trtllm.generation.source import TokenBatch
from tests.support.scripted_source import END, OTHER_END, ScriptedSource, Stage, Step, Wait, ask
from tests.support.virtual_time import cancel_at, in_virtual_time, run

HELLO: tuple[Step, ...] = (b"Hello", b", ", b"world", [END])


async def collect(stage: Stage, request: GenerationRequest) -> tuple[list[str], Finish]:
    """The texts of an answer, and its end, which is its last item and its only one."""
    items = [item async for item in stage.generator.stream(request)]
    *deltas, finish = items
    assert isinstance(finish, Finish)
    texts = [delta.text for delta in deltas if isinstance(delta, TextDelta)]
    assert len(texts) == len(deltas)
    return texts, finish


@in_virtual_time
async def test_text_comes_in_order_as_it_comes_and_then_its_end() -> None:
    stage = Stage(ScriptedSource(*HELLO))
    texts, finish = await collect(stage, ask("Hi"))
    assert texts == ["Hello", ", ", "world"]
    assert finish == Finish("stop", TokenCounts(2, 13))
    assert stage.observer.outcomes == ["stop"]
    (seen,) = stage.observer.streams
    assert (seen.prompt_tokens, seen.admitted_times, seen.batches) == (2, 1, [5, 2, 5, 1])
    stage.check_nothing_is_held()


@pytest.mark.parametrize("size", range(1, 12))
def test_batches_change_nothing_but_the_pieces(size: int) -> None:
    text = "Ünï 🦙 क्षि".encode()
    batches = [text[i : i + size] for i in range(0, len(text), size)]
    stage = Stage(ScriptedSource(*batches, [END]))
    texts, finish = run(collect(stage, ask()))
    assert "".join(texts) == text.decode()
    assert all(texts)
    assert "\ufffd" not in "".join(texts)
    assert finish == Finish("stop", TokenCounts(2, len(text) + 1))


@in_virtual_time
async def test_bytes_that_never_become_a_character_are_shown_as_such() -> None:
    texts, _ = await collect(Stage(ScriptedSource(b"a\xf0\x9f", [END])), ask())
    assert "".join(texts) == "a\ufffd"


@pytest.mark.parametrize(
    ("script", "reason", "tokens"),
    [
        ((b"ab", [END]), "stop", 3),
        ((b"ab", [OTHER_END]), "stop", 3),
        ((b"ab",), "stop", 3),  # the engine keeps its end token to itself
        ((b"abcde",), "length", 5),
        ((b"abcd", [END]), "stop", 5),
        (([END],), "stop", 1),
        ((), "stop", 1),
    ],
)
def test_why_an_answer_is_over_and_how_many_tokens_it_has(script: tuple[Step, ...], reason: str, tokens: int) -> None:
    stage = Stage(ScriptedSource(*script))
    _, finish = run(collect(stage, ask("Hello", max_tokens=5)))
    assert (finish.reason, finish.usage) == (reason, TokenCounts(5, tokens))
    assert stage.observer.outcomes == [reason]


@in_virtual_time
async def test_an_answer_that_ignores_its_end_goes_on() -> None:
    stage = Stage(ScriptedSource(b"ab", [END], b"cd"))
    texts, finish = await collect(stage, ask(max_tokens=5, ignore_end=True))
    assert ("".join(texts), finish.reason, finish.usage.completion_tokens) == ("abcd", "length", 5)
    assert stage.source.requests[0].end_id is None
    # Where its last token is one that would have been the end, it is cut all the same.
    stage = Stage(ScriptedSource(b"ab", [END]))
    _, finish = await collect(stage, ask(max_tokens=3, ignore_end=True))
    assert (finish.reason, finish.usage.completion_tokens) == ("length", 3)


@in_virtual_time
async def test_a_stop_string_ends_the_request_in_the_engine() -> None:
    stage = Stage(ScriptedSource(b"one ", b"two ", b"three", Wait(500), b" four", [END]))
    texts, finish = await collect(stage, ask(stop=("two",)))
    assert "".join(texts) == "one "
    assert finish == Finish("stop", TokenCounts(2, 7), "two")
    assert (stage.source.left_early, stage.source.given) == (1, 2)
    assert asyncio.get_running_loop().time() == 0
    stage.check_nothing_is_held()


@in_virtual_time
async def test_scores_come_with_their_text() -> None:
    stage = Stage(ScriptedSource(TokenBatch(list("é!".encode()), [-1.0, -2.0, -3.0]), TokenBatch([END], [-4.0])))
    items = [item async for item in stage.generator.stream(ask(log_probs=True))]
    scores = [score[:2] for item in items if isinstance(item, TextDelta) for score in item.scores]
    assert scores == [(0xC3, -1.0), (0xA9, -2.0), (ord("!"), -3.0)]
    assert stage.source.requests[0].log_probs


ERRORS = [
    (RequestRefused("No.", tensor="seed"), "invalid_request"),
    (EngineUnavailable("Gone."), "engine_unavailable"),
    (EngineTimeout("Late."), "timeout"),
    (GenerationError("What?"), "internal_error"),
    (ValueError("A bug."), "internal_error"),
]


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize(("error", "outcome"), ERRORS, ids=lambda value: type(value).__name__)
def test_an_error_of_the_source_ends_the_stream_after_all_that_came(error: Exception, outcome: str, after: int) -> None:
    async def main() -> None:
        stage = Stage(ScriptedSource(*(b"ab", b"cd")[:after], error))
        seen: list[object] = []
        with pytest.raises(type(error)) as raised:
            async for item in stage.generator.stream(ask()):
                seen.append(item)
        assert raised.value is error
        assert seen == [TextDelta("ab"), TextDelta("cd")][:after]
        assert stage.observer.outcomes == [outcome]
        stage.check_nothing_is_held()
        # The next one is served.
        stage.source._choose = lambda request: HELLO
        texts, _ = await collect(stage, ask())
        assert "".join(texts) == "Hello, world"

    run(main())


@in_virtual_time
async def test_without_an_engine_there_is_no_stream_and_no_slot_is_lost() -> None:
    stage = Stage(ScriptedSource())

    def none() -> ScriptedSource:
        raise EngineUnavailable("It is starting.")

    stage.generator._source = none
    with pytest.raises(EngineUnavailable, match="starting"):
        await collect(stage, ask())
    assert stage.observer.outcomes == ["engine_unavailable"]
    assert stage.observer.streams[0].admitted_times == 0
    stage.check_nothing_is_held()


@in_virtual_time
async def test_the_engine_that_is_asked_is_that_of_the_moment_in_which_the_slot_comes() -> None:
    old, new = ScriptedSource(Wait(5), *HELLO), ScriptedSource(*HELLO)
    stage = Stage(old, running=1)
    first = asyncio.create_task(collect(stage, ask()))
    await asyncio.sleep(1)
    second = asyncio.create_task(collect(stage, ask()))
    await asyncio.sleep(1)
    stage.generator._source = lambda: new
    await asyncio.gather(first, second)
    assert (len(old.requests), len(new.requests)) == (1, 1)


@in_virtual_time
async def test_a_refused_request_is_never_put_in_line() -> None:
    stage = Stage(ScriptedSource(*HELLO), running=1, waiting=0)
    with pytest.raises(InvalidRequest) as refused:
        await collect(stage, ask("x" * 5000))
    assert refused.value.code == "context_length_exceeded"
    assert (stage.observer.refusals, stage.observer.streams) == (["invalid_request"], [])
    assert stage.source.requests == []


@in_virtual_time
async def test_who_finds_the_line_full_is_told_at_once() -> None:
    stage = Stage(ScriptedSource(Wait(10), *HELLO), running=1, waiting=1)
    tasks = [asyncio.create_task(collect(stage, ask())) for _ in range(2)]
    await asyncio.sleep(1)
    with pytest.raises(QueueFull, match="busy with 2 requests"):
        await collect(stage, ask())
    assert asyncio.get_running_loop().time() == 1
    await asyncio.gather(*tasks)
    assert stage.observer.outcomes == ["stop", "stop", "overloaded"]


@in_virtual_time
async def test_who_waits_for_a_slot_waits_as_long_as_for_a_first_token() -> None:
    stage = Stage(ScriptedSource(Wait(29), b"ab", Wait(29), [END]), running=1, deadlines=Deadlines(30, 30, 100))
    first = asyncio.create_task(collect(stage, ask()))
    await asyncio.sleep(1)
    with pytest.raises(WaitedTooLong, match="for 30 s"):
        await collect(stage, ask())
    assert asyncio.get_running_loop().time() == 31
    await first
    assert stage.observer.outcomes == ["stop", "overloaded"]
    assert [seen.admitted_times for seen in stage.observer.streams] == [1, 0]
    stage.check_nothing_is_held()


@in_virtual_time
async def test_a_server_that_drains_takes_no_more_and_ends_what_it_has() -> None:
    stage = Stage(ScriptedSource(Wait(5), *HELLO))
    open_ = asyncio.create_task(collect(stage, ask()))
    await asyncio.sleep(1)
    stage.admission.drain()
    with pytest.raises(Draining):
        await collect(stage, ask())
    texts, _ = await open_
    assert "".join(texts) == "Hello, world"
    assert stage.observer.outcomes == ["stop", "engine_unavailable"]


@pytest.mark.parametrize(
    ("script", "said", "at"),
    [
        ((Wait(100), b"a"), "no first token within 10 s", 10),
        ((Wait(9), b"a", Wait(100), b"b"), "no further token within 20 s", 29),
        ((Wait(9), *[step for _ in range(9) for step in (b"a", Wait(15))]), "not complete after 60 s", 60),
    ],
)
def test_deadlines(script: tuple[Step, ...], said: str, at: float) -> None:
    async def main() -> None:
        stage = Stage(ScriptedSource(*script), deadlines=Deadlines(10, 20, 60))
        with pytest.raises(EngineTimeout, match=said):
            await collect(stage, ask())
        assert asyncio.get_running_loop().time() == pytest.approx(at)
        assert stage.observer.outcomes == ["timeout"]
        stage.check_nothing_is_held()

    run(main())


@in_virtual_time
async def test_the_deadline_counts_from_the_request_and_not_from_the_slot() -> None:
    stage = Stage(ScriptedSource(Wait(8), b"ab", [END]), running=1, deadlines=Deadlines(10, 10, 100))
    first = asyncio.create_task(collect(stage, ask()))
    await asyncio.sleep(1)
    with pytest.raises(EngineTimeout, match="no first token"):
        await collect(stage, ask())  # its slot came at 8 s
    assert asyncio.get_running_loop().time() == 11
    assert stage.source.began == [0, 1]
    await first


@pytest.mark.parametrize("items", range(4))
def test_a_client_that_leaves_after_any_item_ends_the_request(items: int) -> None:
    async def main() -> None:
        stage = Stage(ScriptedSource(*HELLO, Wait(50)), running=1)
        stream = stage.generator.stream(ask())
        for _ in range(items):
            await anext(stream)
        await stream.aclose()
        assert stage.observer.outcomes == (["cancelled"] if items else [])
        assert stage.source.left_early == (1 if items else 0)
        stage.check_nothing_is_held()
        texts, _ = await collect(stage, ask())
        assert "".join(texts) == "Hello, world"

    run(main())


@in_virtual_time
async def test_a_client_that_leaves_with_the_answer_whole_has_had_it() -> None:
    """After the last token there may be text that a stop string held back."""
    stage = Stage(ScriptedSource(b"Hello, wor"))
    async with aclosing(stage.generator.stream(ask(max_tokens=10, stop=("world",)))) as stream:
        assert await anext(stream) == TextDelta("Hello, ")
        assert stage.admission.running == 1
        assert await anext(stream) == TextDelta("wor")
        assert stage.observer.outcomes == ["length"]
        assert (stage.admission.running, stage.source.open) == (0, 0)
    assert stage.observer.outcomes == ["length"]


SCENES: dict[str, tuple[tuple[Step, ...], tuple[str, ...]]] = {
    "an answer": (HELLO, ()),
    "slow tokens": ((Wait(1), b"a", Wait(2), b"b", Wait(3), [END]), ()),
    "a stop string": ((b"a", b"bc", b"d", Wait(9)), ("cd",)),
    "an error": ((b"a", Wait(1), EngineUnavailable("Gone.")), ()),
    "a late token": ((b"a", Wait(5000), b"b"), ()),
}


@pytest.mark.parametrize("line", [False, True], ids=["free", "in line"])
@pytest.mark.parametrize("scene", SCENES)
def test_cancelled_at_any_await_it_leaves_nothing_behind(scene: str, line: bool) -> None:
    """Also in line, and in the very turn in which its slot comes."""
    script, stop = SCENES[scene]

    async def at(k: int) -> bool:
        stage = Stage(ScriptedSource(choose=lambda request: script if request.max_tokens == 99 else (Wait(3), b"x")))
        others = 4 if line else 0
        busy = [asyncio.create_task(collect(stage, ask(max_tokens=9))) for _ in range(others)]
        await asyncio.sleep(1)

        async def client() -> None:
            with suppress(EngineUnavailable, EngineTimeout):
                await collect(stage, ask(max_tokens=99, stop=stop))

        cancelled = await cancel_at(client(), k)
        behind = asyncio.create_task(collect(stage, ask(max_tokens=9)))
        await asyncio.gather(*busy, behind)
        stage.check_nothing_is_held()
        outcomes = stage.observer.outcomes
        assert outcomes[:others] == ["stop"] * others and outcomes[-1] == "stop"
        if cancelled and len(outcomes) == others + 2:
            assert outcomes[others] == "cancelled"
        return cancelled

    k = 0
    while run(at(k)):
        k += 1
    assert k >= 2 + line


@in_virtual_time
async def test_slow_readers_keep_nobody_waiting_and_lose_nothing() -> None:
    stage = Stage(ScriptedSource(*HELLO))
    loop = asyncio.get_running_loop()
    ends: dict[float, float] = {}

    async def read(pause_s: float) -> str:
        text = ""
        async for item in stage.generator.stream(ask()):
            await asyncio.sleep(pause_s)
            text += item.text if isinstance(item, TextDelta) else ""
        ends[pause_s] = loop.time()
        return text

    texts = await asyncio.gather(*(read(pause) for pause in (100, 0, 10)))
    assert texts == ["Hello, world"] * 3
    assert ends == {0: 0, 10: 40, 100: 400}
    assert stage.observer.outcomes == ["stop"] * 3


@in_virtual_time
async def test_a_slow_reader_is_not_taken_for_a_slow_engine() -> None:
    stage = Stage(ScriptedSource(b"a", b"b", b"c", [END]), deadlines=Deadlines(10, 10, 1000))
    text = ""
    async for item in stage.generator.stream(ask()):
        await asyncio.sleep(9)
        text += item.text if isinstance(item, TextDelta) else ""
    assert text == "abc"


@in_virtual_time
async def test_streams_side_by_side_are_each_their_own() -> None:
    stage = Stage(
        ScriptedSource(
            choose=lambda request: [step for i in request.input_ids for step in (Wait(i / 100), bytes([i]))]
        ),
        running=3,
        waiting=97,
        deadlines=Deadlines(10_000, 10_000, 100_000),
    )
    prompts = [f"{i:02} is mine" for i in range(100)]
    answers = await asyncio.gather(*(collect(stage, ask(prompt)) for prompt in prompts))
    assert ["".join(texts) for texts, _ in answers] == prompts
    assert stage.source.most_open == 3
    assert stage.observer.outcomes == ["stop"] * 100
    stage.check_nothing_is_held()
