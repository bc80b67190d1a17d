"""Orders, seeds and spans: pure, and the same on every machine and Python version (G5, G8, G9, G27)."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enqueuer import Place, Plan, Span, item_rng, item_seed, worker_info
from enqueuer._plan import FOREVER, permutation
from enqueuer._plan import item_seed as seed_of
from enqueuer.errors import EmptySequenceError

PINNED_ORDERS = [[8, 4, 3, 6, 2, 1, 0, 5, 7, 9], [0, 3, 6, 1, 2, 8, 9, 4, 5, 7], [5, 6, 9, 8, 0, 4, 1, 7, 2, 3]]
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Without the limits that Hypothesis sets for the time of an example."""

PINNED_SEEDS = [181602786890591658443390467685960846946, 303065017302564675690994085819819491813]


@unhurried
@given(seed=st.integers(), epoch=st.integers(0, 9), length=st.integers(0, 200))
def test_an_order_is_a_permutation(seed, epoch, length) -> None:
    assert sorted(permutation(seed, epoch, length)) == list(range(length))


def test_orders_are_the_same_on_every_machine_and_python() -> None:
    """Pinned: a change of these numbers breaks every saved state."""
    assert permutation(0, 0, 10) == PINNED_ORDERS[0]
    assert permutation(7, 3, 10) == PINNED_ORDERS[1]
    assert permutation(-1, 0, 10) == PINNED_ORDERS[2]


def test_item_seeds_are_the_same_on_every_machine_and_python() -> None:
    """Pinned, too."""
    assert [seed_of(0, 0, 0), seed_of(1, 2, 3)] == PINNED_SEEDS


def test_every_order_of_a_short_epoch_comes_about_equally_often() -> None:
    """Chi-squared over the 24 orders of 4 items; 60 would come once in 10,000 seeds."""
    counts = {}
    for seed in range(4800):
        order = tuple(permutation(seed, 0, 4))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 60


@unhurried
@given(
    length=st.integers(1, 20),
    start=st.integers(0, 60),
    shuffle=st.booleans(),
    barrier=st.booleans(),
    seed=st.integers(0, 5),
    ahead=st.integers(0, 40),
)
def test_a_plan_that_starts_later_means_the_same_by_each_rank(length, start, shuffle, barrier, seed, ahead) -> None:
    """G27: walk from rank 0, and from rank `start`; at rank `start + ahead` both mean the same work."""

    def work(plan, rank):
        span = plan.span(plan.start.epoch, plan.start.rank, length)
        while rank >= span.end:
            span = plan.span(span.epoch + 1, span.end, length)
        return span.work(rank), span.locate(rank)

    place = Place(*divmod(start, length), start, length)
    whole = Plan(seed=seed, shuffle=shuffle, barrier=barrier)
    resumed = Plan(seed=seed, shuffle=shuffle, barrier=barrier, start=place)
    assert work(whole, start + ahead) == work(resumed, start + ahead)


def test_without_hook_and_shuffle_one_span_is_for_ever() -> None:
    assert Plan().span(0, 0, 3) == Span(epoch=0, first=0, length=3, end=FOREVER)


def test_an_epoch_without_items_is_an_error_that_says_so() -> None:
    with pytest.raises(EmptySequenceError, match="epoch 4 would begin here, but the length of the sequence is 0"):
        Plan().span(4, 12, 0)


@pytest.mark.parametrize("call", [item_seed, item_rng])
def test_outside_of_an_item_there_is_no_seed(call) -> None:
    assert worker_info() is None
    with pytest.raises(RuntimeError, match="outside of an item"):
        call()
