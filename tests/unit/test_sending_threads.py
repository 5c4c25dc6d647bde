"""Responses that several threads send at a time: to the one who calls `send` it is as if there were one.

The senders here are fakes that wait for each other, so that the threads are known to be at work at once.
"""

import threading
from collections.abc import Iterator

import pytest

from bento_trtllm.triton_models.shared.pacing import Pace
from tests.support.outboxes import Clock, Sent, make, never

import outbox  # isort: skip - where the above has found it
from outbox import Outbox, Outgoing, Piece, sending_threads  # isort: skip

BOUND_S = 60.0
FOUR = 4


class FakeSender(Sent):
    """Waits within a send until as many others are within theirs as `together` says, and takes `clock` a second on."""

    def __init__(
        self, together: threading.Barrier | None = None, clock: Clock | None = None, fails: bool = False
    ) -> None:
        super().__init__()
        self.together, self.clock, self.fails = together, clock, fails
        self.threads: list[int] = []
        self.indices: list[int] = []
        self._within = threading.Lock()

    def send(self, piece: Piece, final: bool) -> None:
        assert self._within.acquire(blocking=False), "two threads send for one request"
        try:
            if self.together:
                self.together.wait(BOUND_S)
            if self.clock:
                self.clock.now += 1
            self.threads.append(threading.get_ident())
            self.indices.append(piece.index)
            if self.fails:
                raise RuntimeError("Triton has dropped the request")
            super().send(piece, final)
        finally:
            self._within.release()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(outbox, "time", clock)
    return clock


@pytest.fixture
def boxes() -> Iterator[list[Outbox]]:
    """Those that are to be closed."""
    boxes: list[Outbox] = []
    yield boxes
    for box in boxes:
        box.close()


@pytest.fixture
def together() -> threading.Barrier:
    return threading.Barrier(FOUR)


def streams(*senders: FakeSender, sequences: int = 1) -> list[Outgoing]:
    return [Outgoing(sender, sequences, streaming=True) for sender in senders]


def others() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("sends")]


def test_four_where_there_are_cores_for_it_or_else_the_caller_alone() -> None:
    assert [sending_threads(cores) for cores in (1, 2, 7)] == [1, 1, 1]
    assert [sending_threads(cores) for cores in (8, 16, 192)] == [4, 4, 4]


def test_one_is_the_caller_and_no_thread_is_made(clock: Clock) -> None:
    box, senders = Outbox(Pace(0), never, threads=1), [FakeSender() for _ in range(9)]
    for outgoing in streams(*senders):
        make(box, outgoing, 1)
    box.send(9, clock.now + 1)
    assert {each for sender in senders for each in sender.threads} == {threading.get_ident()}
    assert [len(sender.responses) for sender in senders] == [1] * 9
    assert not others()
    box.close()


def test_a_stream_alone_is_sent_by_the_caller(clock: Clock, boxes: list[Outbox]) -> None:
    """Its tokens do not wait for another thread to wake."""
    box, sender = Outbox(Pace(0), never, threads=FOUR), FakeSender()
    boxes.append(box)
    make(box, streams(sender)[0], 1)
    box.send(1, clock.now + 1)
    assert sender.threads == [threading.get_ident()]
    assert not others()


def test_streams_stay_in_order_and_their_last_response_is_the_final_one(
    clock: Clock, boxes: list[Outbox], together: threading.Barrier
) -> None:
    """Four requests of three sequences each, whose sends are all made together, turn after turn."""
    turns, sequences = 20, 3
    box, senders = Outbox(Pace(0), never, threads=FOUR), [FakeSender(together) for _ in range(FOUR)]
    boxes.append(box)
    outgoings = streams(*senders, sequences=sequences)
    for turn in range(turns):
        for outgoing in outgoings:
            for piece in outgoing.pieces:
                piece.tokens.append(turn)
                piece.finished = turn == turns - 1
            make(box, outgoing, finished=turn == turns - 1)
        box.send(FOUR, clock.now + 1)
        assert not box
        # The turn is over for the caller, too, only when all has been sent.
        assert [len(sender.responses) for sender in senders] == [sequences * (turn + 1)] * FOUR
    for sender in senders:
        assert sender.indices == [*range(sequences)] * turns
        assert [tokens for tokens, _ in sender.responses] == [[turn] for turn in range(turns) for _ in range(sequences)]
        finals = [final for _, final in sender.responses]
        assert finals == [False] * (turns * sequences - 1) + [True]


@pytest.mark.parametrize("streaming", [True, False])
def test_more_requests_than_threads_are_each_sent_once(
    clock: Clock, boxes: list[Outbox], together: threading.Barrier, streaming: bool
) -> None:
    box, senders = Outbox(Pace(0), never, threads=FOUR), [FakeSender(together) for _ in range(5 * FOUR)]
    boxes.append(box)
    for number, sender in enumerate(senders):
        make(box, Outgoing(sender, 1, streaming), number, finished=True)
    box.send(len(senders), clock.now + 1)
    assert [sender.responses for sender in senders] == [[([number], True)] for number in range(len(senders))]
    # Each send waited for three others.
    assert len({each for sender in senders for each in sender.threads}) == FOUR


def test_a_turn_ends_for_all_threads_and_the_longest_waiting_are_first_in_the_next(
    clock: Clock, boxes: list[Outbox], together: threading.Barrier
) -> None:
    box, senders = Outbox(Pace(0), never, threads=FOUR), [FakeSender(together, clock) for _ in range(7)]
    boxes.append(box)
    outgoings = streams(*senders)
    for outgoing in outgoings[:6]:
        make(box, outgoing, 1)
    box.send(6, clock.now + 0.5)
    assert [len(sender.responses) for sender in senders] == [1, 1, 1, 1, 0, 0, 0]
    for number in (3, 6, 0, 1):
        make(box, outgoings[number], 2)
    box.send(7, clock.now + 0.5)
    assert [len(sender.responses) for sender in senders] == [1, 1, 1, 2, 1, 1, 1]
    assert len(box) == 2


def test_those_whose_time_has_not_come_keep_their_place(
    clock: Clock, boxes: list[Outbox], together: threading.Barrier
) -> None:
    box, senders = Outbox(Pace(1000, slowest_ms=10_000), never, threads=FOUR), [FakeSender(together) for _ in range(10)]
    boxes.append(box)
    early, at_once, late = (streams(*senders[begin:end]) for begin, end in ((0, 4), (4, 8), (8, 10)))
    for outgoing in early:
        make(box, outgoing, 1)
    box.send(1, clock.now + 0.5)
    for outgoing in (*early, *at_once):
        make(box, outgoing, 2)
    box.send(1, clock.now + 0.5)
    assert [len(sender.responses) for sender in senders] == [1] * 8 + [0] * 2
    for outgoing in late:
        make(box, outgoing, 3)
    for sender in senders:
        sender.clock = clock
    clock.now += 2
    box.send(1, clock.now + 0.5)
    assert [len(sender.responses) for sender in senders] == [2] * 4 + [1] * 4 + [0] * 2
    assert len(box) == 2


def test_those_that_cannot_be_sent_are_told_once_by_the_caller_and_hold_up_no_other(
    clock: Clock, boxes: list[Outbox], together: threading.Barrier
) -> None:
    told: list[tuple[Outgoing, str, int]] = []
    box = Outbox(Pace(0), lambda *lost: told.append((lost[0], str(lost[1]), threading.get_ident())), threads=FOUR)
    boxes.append(box)
    # All four threads meet a failure, and each goes on.
    senders = [FakeSender(together, fails=number < FOUR) for number in range(2 * FOUR)]
    outgoings = streams(*senders)
    for outgoing in outgoings:
        make(box, outgoing, 1)
    box.send(len(senders), clock.now + 1)
    assert len({sender.threads[0] for sender in senders[:FOUR]}) == FOUR
    assert {id(outgoing) for outgoing, _, _ in told} == {id(outgoing) for outgoing in outgoings[:FOUR]}
    assert [rest for _, *rest in told] == [["Triton has dropped the request", threading.get_ident()]] * FOUR
    assert [sender.responses for sender in senders] == [[]] * FOUR + [[([1], False)]] * FOUR
    box.send(len(senders), clock.now + 1)
    assert (len(told), len(box)) == (FOUR, 0)


def test_nothing_more_is_sent_of_a_request_that_could_not_be_sent(clock: Clock, boxes: list[Outbox]) -> None:
    lost: list[Outgoing] = []
    box = Outbox(Pace(0), lambda outgoing, error: lost.append(outgoing), threads=FOUR)
    boxes.append(box)
    sender = FakeSender(fails=True)
    outgoing = streams(sender, sequences=3)[0]
    for piece in outgoing.pieces:
        piece.tokens.append(1)
    make(box, outgoing)
    box.send(1, clock.now + 1)
    assert (sender.indices, lost) == ([0], [outgoing])


def test_who_is_told_may_drop_what_still_waits(clock: Clock, boxes: list[Outbox], together: threading.Barrier) -> None:
    """The queue is whole again by then."""
    senders = [FakeSender(together, clock, fails=number == 1) for number in range(6)]
    outgoings = streams(*senders)
    box: Outbox = Outbox(Pace(0), lambda outgoing, error: box.drop(outgoings[4]), threads=FOUR)
    boxes.append(box)
    for outgoing in outgoings:
        make(box, outgoing, 1)
    box.send(6, clock.now + 0.5)
    assert len(box) == 1
    box.drop(outgoings[5])
    assert not box


def test_an_error_that_is_none_of_a_request_is_the_callers(clock: Clock, boxes: list[Outbox]) -> None:
    """Another thread's, too: the engine ends with it."""
    both = threading.Barrier(2)

    class Ends(FakeSender):
        def send(self, piece: Piece, final: bool) -> None:
            both.wait(BOUND_S)
            if threading.get_ident() != caller:
                raise SystemExit("the interpreter ends")

    caller = threading.get_ident()
    box = Outbox(Pace(0), never, threads=FOUR)
    boxes.append(box)
    for outgoing in streams(Ends(), Ends()):
        make(box, outgoing, 1)
    with pytest.raises(SystemExit, match="the interpreter ends"):
        box.send(2, clock.now + 1)


def test_closing_ends_the_threads(clock: Clock, together: threading.Barrier) -> None:
    box = Outbox(Pace(0), never, threads=FOUR)
    for outgoing in streams(*[FakeSender(together) for _ in range(FOUR)]):
        make(box, outgoing, 1)
    box.send(FOUR, clock.now + 1)
    assert len(others()) == FOUR - 1
    box.close()
    assert not others()
