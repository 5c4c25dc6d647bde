"""What must hold of the simulation of routing, whatever its numbers."""

import numpy as np
import pytest

from benchmark.routing import POLICIES, Fleet, Policy, simulate

SMALL = Fleet(8, requests=1500)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=list(POLICIES))
def test_each_request_is_served_once_and_no_faster_than_it_is_read(policy: Policy) -> None:
    outcome = simulate(SMALL, policy)
    assert outcome.served.sum() == SMALL.requests == len(outcome.first_s)
    own_s = SMALL.own_tokens / SMALL.tokens_per_s
    assert outcome.first_s.min() >= own_s - 1e-9
    whole_s = own_s + SMALL.prefix_tokens / SMALL.tokens_per_s
    assert outcome.first_s[~outcome.hit].min() >= whole_s - 1e-9
    again = simulate(SMALL, policy)
    assert np.array_equal(outcome.first_s, again.first_s), "the seed decides"


def test_one_replica_leaves_nothing_to_choose() -> None:
    one, *others = (simulate(Fleet(1, requests=500), policy) for policy in POLICIES.values())
    assert all(np.array_equal(one.first_s, other.first_s) for other in others)


def test_round_robin_is_even_and_prefix_aware_finds_more() -> None:
    outcomes = {name: simulate(SMALL, policy) for name, policy in POLICIES.items()}
    assert np.ptp(outcomes["round robin"].served) <= 1
    assert outcomes["prefix-aware"].hit.mean() > outcomes["round robin"].hit.mean()
    assert outcomes["prefix-aware"].first_s.mean() < outcomes["round robin"].first_s.mean()


def test_without_a_cache_least_loaded_waits_least() -> None:
    fleet = Fleet(8, requests=1500, kept=0)
    waits = {name: simulate(fleet, policy).first_s.mean() for name, policy in POLICIES.items()}
    assert waits["least loaded"] <= min(waits.values()) + 1e-9


def test_equals_share_what_comes() -> None:
    """Where nearly all are free nearly always, no replica is a policy's favourite."""
    served = simulate(Fleet(8, requests=4000, load=0.05), POLICIES["least loaded"]).served
    assert served.max() < 1.2 * served.mean()
