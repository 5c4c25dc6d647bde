"""How long a first step waits for requests that come with the first."""

import pytest

from bento_trtllm.triton_models.openvino.gathering import QUIET_S, SHARE, Gathering


def test_nothing_is_waited_before_anything_is_known() -> None:
    assert Gathering(256).left_s(100_000, 0) == 0


def test_a_small_part_of_what_the_prompts_take_is_waited() -> None:
    gathering = Gathering(256)
    gathering.learn(100, 0.1)
    assert gathering.left_s(100, 0) == pytest.approx(0.1 * SHARE)
    assert gathering.left_s(100, 0.001) == pytest.approx(0.1 * SHARE - 0.001)
    assert gathering.left_s(100, 0.1 * SHARE) == 0
    # Whoever has come makes it longer.
    assert gathering.left_s(133, 0.1 * SHARE) == pytest.approx(0.033 * SHARE)


def test_nobody_waits_long_for_one_who_does_not_come() -> None:
    gathering = Gathering(256)
    gathering.learn(100, 1)
    assert gathering.left_s(100_000, 1) == QUIET_S


def test_a_step_takes_no_more_of_a_long_prompt_than_it_can() -> None:
    gathering = Gathering(200)
    gathering.learn(100_000, 0.2)
    assert gathering.left_s(100, 0) == pytest.approx(0.1 * SHARE)


def test_what_the_last_such_step_took_counts() -> None:
    gathering = Gathering(256)
    gathering.learn(100, 0.1)
    gathering.learn(100, 0.001)
    assert gathering.left_s(1000, 0) == pytest.approx(0.01 * SHARE)
