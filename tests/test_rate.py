"""The rate limit against a clock that stands still until it is told to go on."""

from __future__ import annotations

import threading

import pytest

from harness import rate as rates
from harness.rate import PER_MINUTE, Rate


class Clock:
    """Seconds that pass only by ``now += …``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_client_asks_a_few_at_once_and_then_at_a_steady_rate() -> None:
    clock = Clock()
    rate = Rate(PER_MINUTE, burst=3, clock=clock)
    assert [rate.take("a") for _ in range(3)] == [0, 0, 0]
    assert rate.take("a") == pytest.approx(12)
    clock.now += 5
    assert rate.take("a") == pytest.approx(7)  # asking too early costs nothing
    clock.now += 7
    assert rate.take("a") == 0
    assert rate.take("a") == pytest.approx(12)
    clock.now += 3600
    assert [rate.take("a") for _ in range(4)] == [0, 0, 0, pytest.approx(12)]  # no more than a bucket holds


def test_clients_do_not_wait_for_each_other() -> None:
    rate = Rate(1, clock=Clock())
    assert rate.take("a") == rate.take("b") == 0
    assert rate.take("a") == rate.take("b") == pytest.approx(60)


def test_in_any_hour_no_more_than_the_rate_and_a_burst() -> None:
    clock = Clock()
    rate = Rate(5, burst=2, clock=clock)
    asked = 0
    for _ in range(3600):
        clock.now += 1
        asked += rate.take() == 0
    assert 300 <= asked <= 302


def test_buckets_of_clients_that_left_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MOST_CLIENTS", 10)
    clock = Clock()
    rate = Rate(60, clock=clock)
    for number in range(100):
        clock.now += 0.5
        assert rate.take(f"client {number}") == 0
        assert len(rate._buckets) <= 10
    assert rate.take("client 99") > 0  # the latest is still known


def test_waiting_takes_real_time_and_can_be_stopped() -> None:
    rate = Rate(60 * 50)  # one in 20 ms
    stop = threading.Event()
    assert rate.wait(stop)
    assert rate.wait(stop)
    slow = Rate(0.01)
    assert slow.wait(stop)
    threading.Timer(0.05, stop.set).start()
    assert not slow.wait(stop)


@pytest.mark.parametrize(("per_minute", "burst"), [(0, 1), (-1, 1), (5, 0.5), (float("nan"), 1)])
def test_a_rate_that_allows_nothing_is_none(per_minute: float, burst: float) -> None:
    with pytest.raises(ValueError, match="allows nothing"):
        Rate(per_minute, burst)
