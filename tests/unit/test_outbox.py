"""How often a stream's tokens are sent, and in which responses, by the modules that every engine model shares."""

import pytest

from bento_trtllm.triton_models.shared.pacing import Pace, check_gap_s
from tests.support.outboxes import Clock, Sent, make, never

import outbox  # isort: skip - where the above has found it
from outbox import Outbox, Outgoing, Piece  # isort: skip


class Gone(Sent):
    def send(self, piece: Piece, final: bool) -> None:
        raise RuntimeError("Triton has dropped the request")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(outbox, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("wanted_s", "took_s", "gap_s"),
    [
        pytest.param(0.02, 0.0001, 0.02, id="as wanted"),
        pytest.param(0.02, 0.0004, 0.04, id="a hundredth of the time"),
        pytest.param(0.02, 0.0140, 0.1, id="at most"),
        pytest.param(3.0, 0.0140, 3.0, id="what is wanted is more"),
    ],
)
def test_asking_whether_clients_have_left_takes_a_hundredth_of_the_time(
    wanted_s: float, took_s: float, gap_s: float
) -> None:
    assert check_gap_s(wanted_s, took_s) == pytest.approx(gap_s)


def test_the_pace_grows_with_the_streams_up_to_the_slowest() -> None:
    pace = Pace(1.5, slowest_ms=100)
    assert pace.gap_s(1) == pytest.approx(0.0015)
    assert pace.gap_s(64) == pytest.approx(0.096)
    assert pace.gap_s(1000) == pytest.approx(0.1)
    assert Pace(0).gap_s(1000) == 0


def test_the_first_tokens_go_at_once_and_later_ones_are_merged_until_they_are_due(clock: Clock) -> None:
    box, sent = Outbox(Pace(10), never), Sent()
    outgoing = Outgoing(sent, 1, streaming=True)
    for token in range(4):
        make(box, outgoing, token)
        box.send(streams=2, until=clock.now + 1)
        clock.now += 0.008
    assert sent.responses == [([0], False), ([1, 2, 3], False)]
    assert not box


def test_the_last_response_does_not_wait(clock: Clock) -> None:
    box, sent = Outbox(Pace(10), never), Sent()
    outgoing = Outgoing(sent, 1, streaming=True)
    make(box, outgoing, 1)
    box.send(1, clock.now + 1)
    make(box, outgoing, 2, finished=True)
    box.send(1, clock.now + 1)
    assert sent.responses == [([1], False), ([2], True)]


def test_an_answer_that_is_not_streamed_is_one_response(clock: Clock) -> None:
    box, sent = Outbox(Pace(0), never), Sent()
    outgoing = Outgoing(sent, 2, streaming=False)
    make(box, outgoing, 1)
    box.send(1, clock.now + 1)
    assert sent.responses == []
    outgoing.pieces[1].tokens.append(7)
    make(box, outgoing, 2, finished=True)
    box.send(1, clock.now + 1)
    assert sent.responses == [([1, 2], False), ([7], True)]


def test_a_turn_ends_and_the_longest_waiting_are_first_in_the_next(clock: Clock) -> None:
    class Slow(Sent):
        def send(self, piece: Piece, final: bool) -> None:
            super().send(piece, final)
            clock.now += 1

    box, replies = Outbox(Pace(0), never), [Slow() for _ in range(4)]
    for number, reply in enumerate(replies):
        make(box, Outgoing(reply, 1, streaming=True), number)
    box.send(4, clock.now + 1.5)
    assert [len(reply.responses) for reply in replies] == [1, 1, 0, 0]
    box.send(4, clock.now + 1.5)
    assert [len(reply.responses) for reply in replies] == [1, 1, 1, 1]


def test_one_that_cannot_be_sent_is_told_and_holds_up_no_other(clock: Clock) -> None:
    failed: list[Outgoing] = []
    box, sent = Outbox(Pace(0), lambda outgoing, error: failed.append(outgoing)), Sent()
    lost, well = Outgoing(Gone(), 1, streaming=True), Outgoing(sent, 1, streaming=True)
    make(box, lost, 1)
    make(box, well, 2)
    box.send(2, clock.now + 1)
    assert failed == [lost]
    assert sent.responses == [([2], False)]
    assert not box


def test_what_is_dropped_is_not_sent(clock: Clock) -> None:
    box, sent = Outbox(Pace(0), never), Sent()
    outgoing = Outgoing(sent, 1, streaming=True)
    make(box, outgoing, 1)
    box.drop(outgoing)
    box.drop(outgoing)
    box.send(1, clock.now + 1)
    assert (sent.responses, len(box)) == ([], 0)
