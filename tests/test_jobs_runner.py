"""The batch runner inside one process: duplicates, retries, errors, memory, order."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError, MarginaliaError, ModelError, ModelUnavailable, NoModelError
from harness.jobs import runner
from harness.jobs.journal import Journal
from harness.jobs.runner import BatchSummary, Cancelled, Item, Result, run_batch


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.db") as opened:
        yield opened


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_DELAY", 0.005)


class Told:
    """Collects what ``on_done`` was called with."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, Result | MarginaliaError, bool]] = []

    def __call__(self, index: int, outcome: Result | MarginaliaError, cached: bool) -> None:
        self.rows.append((index, outcome, cached))

    @property
    def outcomes(self) -> dict[int, Any]:
        assert len({index for index, _, _ in self.rows}) == len(self.rows), "a row was told twice"
        return {index: outcome for index, outcome, _ in self.rows}


def items(count: int) -> Iterator[Item]:
    return (Item(n, f"key-{n}", n) for n in range(count))


def double(item: Item, cancel: threading.Event) -> Result:
    return {"n": 2 * item.payload}


@pytest.mark.parametrize("workers", [1, 4])
def test_every_row_once_and_the_second_run_works_on_nothing(journal: Journal, workers: int) -> None:
    told = Told()
    summary = run_batch(items(100), double, journal=journal, workers=workers, on_done=told, kind="test")
    assert told.outcomes == {n: {"n": 2 * n} for n in range(100)}
    assert (summary.done, summary.cached, summary.failed) == (100, 0, 0)
    assert summary.rate > 0

    def never(item: Item, cancel: threading.Event) -> Result:
        raise AssertionError("worked again")

    again = Told()
    summary = run_batch(items(100), never, journal=journal, workers=workers, on_done=again)
    assert again.outcomes == told.outcomes
    assert [index for index, _, _ in again.rows] == list(range(100))
    assert (summary.done, summary.cached, summary.rate) == (100, 100, 0)


def test_a_result_is_in_the_journal_before_it_is_told(journal: Journal) -> None:
    def on_done(index: int, outcome: Result | MarginaliaError, cached: bool) -> None:
        assert journal.get(f"key-{index}") == outcome

    assert run_batch(items(20), double, journal=journal, workers=3, on_done=on_done).done == 20


def test_outcomes_are_told_in_the_callers_thread_as_they_come(journal: Journal) -> None:
    first_may_end = threading.Event()

    def work(item: Item, cancel: threading.Event) -> Result:
        if item.index == 0:
            assert first_may_end.wait(10)
        return {"n": item.index}

    order = []

    def on_done(index: int, outcome: Result | MarginaliaError, cached: bool) -> None:
        assert threading.current_thread() is threading.main_thread()
        order.append(index)
        first_may_end.set()

    run_batch(items(2), work, journal=journal, workers=2, on_done=on_done)
    assert order == [1, 0]


def test_duplicates_are_done_once_whether_near_or_far(journal: Journal) -> None:
    worked: Counter[str] = Counter()

    def work(item: Item, cancel: threading.Event) -> Result:
        worked[item.key] += 1
        time.sleep(0.002)
        return {"key": item.key}

    rows = [Item(n, f"key-{n % 5}") for n in range(60)]
    told = Told()
    summary = run_batch(rows, work, journal=journal, workers=3, on_done=told)
    assert worked == {f"key-{n}": 1 for n in range(5)}
    assert told.outcomes == {n: {"key": f"key-{n % 5}"} for n in range(60)}
    assert (summary.done, summary.cached) == (60, 55)


def test_memory_stays_bounded_for_any_number_of_items(journal: Journal) -> None:
    told = Told()
    most_ahead = 0

    def endless() -> Iterator[Item]:
        nonlocal most_ahead
        for n in range(400):
            most_ahead = max(most_ahead, n - len(told.rows))
            yield Item(n, f"key-{n % 300}", n)

    run_batch(endless(), double, journal=journal, workers=2, on_done=told)
    assert len(told.rows) == 400
    assert most_ahead <= 2 * runner.ROWS_A_WORKER


def test_a_row_with_an_error_is_kept_and_not_worked_on(journal: Journal) -> None:
    rows = [Item(0, "a", 1), Item(1, "b", 1, error="papers.csv, row 2: no abstract"), Item(2, "c", 3)]
    told = Told()
    summary = run_batch(rows, double, journal=journal, workers=1, on_done=told)
    assert isinstance(told.outcomes[1], InputError)
    assert summary.reasons == {"papers.csv, row 2: no abstract": 1}
    assert (summary.done, summary.failed) == (2, 1)
    assert journal.get("b") is None


def test_unavailable_is_tried_again_until_it_works(journal: Journal) -> None:
    tries: Counter[str] = Counter()

    def work(item: Item, cancel: threading.Event) -> Result:
        tries[item.key] += 1
        if tries[item.key] <= 2:
            raise ModelUnavailable("busy")
        return {"tries": tries[item.key]}

    told = Told()
    summary = run_batch(items(3), work, journal=journal, workers=2, on_done=told)
    assert told.outcomes == {n: {"tries": 3} for n in range(3)}
    assert summary.failed == 0


def test_unavailable_for_good_becomes_the_rows_error_and_the_next_run_tries_again(journal: Journal) -> None:
    tries: Counter[str] = Counter()

    def work(item: Item, cancel: threading.Event) -> Result:
        tries[item.key] += 1
        raise ModelUnavailable("the daemon is gone", "start it")

    told = Told()
    summary = run_batch(items(2), work, journal=journal, workers=2, on_done=told, retries=2)
    assert tries == {"key-0": 3, "key-1": 3}
    assert {type(outcome) for outcome in told.outcomes.values()} == {ModelUnavailable}
    assert summary.reasons == {"the daemon is gone; start it": 2}
    healed = run_batch(items(2), double, journal=journal, workers=2, on_done=Told())
    assert (healed.done, healed.cached) == (2, 0)


def test_other_errors_are_not_tried_again_and_duplicates_share_them(journal: Journal) -> None:
    tries = 0

    def work(item: Item, cancel: threading.Event) -> Result:
        nonlocal tries
        tries += 1
        time.sleep(0.02)
        raise ModelError("the prompt is not understood")

    told = Told()
    summary = run_batch([Item(0, "k"), Item(1, "k")], work, journal=journal, workers=1, on_done=told)
    assert tries == 1
    assert summary.failed == 2
    assert told.outcomes[0] is told.outcomes[1]


def test_a_backend_that_does_not_come_back_is_not_waited_for_by_every_row(journal: Journal) -> None:
    tried: Counter[int] = Counter()

    def work(item: Item, cancel: threading.Event) -> Result:
        tried[item.index] += 1
        if item.index < 2 or item.index == 4:
            return {}
        raise ModelUnavailable("the daemon is gone")

    told = Told()
    summary = run_batch(items(40), work, journal=journal, workers=1, on_done=told, retries=1)
    assert (summary.done, summary.failed) == (3, 37)
    assert summary.reasons == {"the daemon is gone": 37}
    assert set(tried) <= {*range(8), 8}, "after rows 5, 6 and 7 nothing more is tried"
    assert tried[5] == tried[6] == tried[7] == 2


def test_what_is_retryable_can_be_given(journal: Journal) -> None:
    tries = 0

    def work(item: Item, cancel: threading.Event) -> Result:
        nonlocal tries
        tries += 1
        raise ModelError("strange")

    told = Told()
    run_batch(items(1), work, journal=journal, workers=1, on_done=told, retries=1, is_retryable=lambda error: True)
    assert tries == 2


@pytest.mark.parametrize("error", [NoModelError("no model"), ValueError("a bug")])
def test_what_concerns_the_whole_batch_stops_it(journal: Journal, error: Exception) -> None:
    def work(item: Item, cancel: threading.Event) -> Result:
        if item.index == 5:
            raise error
        return {"n": item.index}

    told = Told()
    with pytest.raises(type(error), match=str(error)):
        run_batch(items(1000), work, journal=journal, workers=1, on_done=told)
    assert sorted(told.outcomes) == [0, 1, 2, 3, 4]


def test_a_journal_that_fails_stops_the_batch(journal: Journal) -> None:
    journal._connection.execute("DROP TABLE results")
    journal._connection.execute("CREATE VIEW results AS SELECT '' key, '{}' value WHERE 0")
    with pytest.raises(InputError, match=r"journal\.db"):
        run_batch(items(3), double, journal=journal, workers=1, on_done=Told())


@pytest.mark.parametrize("where", ["on_done", "items"])
def test_an_interrupt_stops_running_work_and_keeps_what_it_finished(journal: Journal, where: str) -> None:
    running = threading.Event()

    def work(item: Item, cancel: threading.Event) -> Result:
        if item.index == 0:
            return {"n": 0}
        running.set()
        assert cancel.wait(10)
        if item.index == 1:
            return {"n": 1}
        raise Cancelled

    def stopping() -> Iterator[Item]:
        yield from items(3)
        if where == "items":
            assert running.wait(10)
            raise KeyboardInterrupt
        yield from (Item(n, f"key-{n}") for n in range(3, 100))

    def on_done(index: int, outcome: Result | MarginaliaError, cached: bool) -> None:
        if where == "on_done":
            assert running.wait(10)
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_batch(stopping(), work, journal=journal, workers=2, on_done=on_done)
    assert time.monotonic() - started < 2
    assert journal.get("key-0") == {"n": 0}
    assert journal.get("key-1") == {"n": 1}
    assert journal.get("key-2") is None


def test_a_retry_that_waits_is_woken_by_the_stop(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_DELAY", 60.0)
    waiting = threading.Event()

    def work(item: Item, cancel: threading.Event) -> Result:
        waiting.set()
        raise ModelUnavailable("busy")

    def stopping() -> Iterator[Item]:
        yield Item(0, "k")
        assert waiting.wait(10)
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_batch(stopping(), work, journal=journal, workers=1, on_done=Told())
    assert time.monotonic() - started < 2


def test_work_that_ignores_the_stop_holds_nobody_up_for_long(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "GRACE_SECONDS", 0.1)
    release = threading.Event()
    running = threading.Event()

    def work(item: Item, cancel: threading.Event) -> Result:
        running.set()
        release.wait(10)
        return {}

    def stopping() -> Iterator[Item]:
        yield Item(0, "k")
        assert running.wait(10)
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_batch(stopping(), work, journal=journal, workers=1, on_done=Told())
    assert time.monotonic() - started < 2
    release.set()


def test_a_summary_counts_only_so_many_reasons() -> None:
    summary = BatchSummary()
    for n in range(1000):
        summary.count(ModelError(f"reason x{n}"), False)
    assert summary.failed == 1000
    assert len(summary.reasons) == runner.MOST_REASONS + 1
    assert summary.reasons[runner.OTHER_REASONS] == 1000 - runner.MOST_REASONS


def test_reasons_that_differ_in_numbers_alone_are_one_and_keep_their_remedy() -> None:
    summary = BatchSummary()
    for error in (
        InputError("p2.csv row 4: the abstract is empty"),
        ModelUnavailable("no daemon at 127.0.0.1:11434", "start it"),
        InputError("p2.csv row 15: the abstract is empty"),
        ModelUnavailable("no daemon at 127.0.0.1:11434", "start it"),
        InputError("p2.csv row 16: the abstract is empty"),
    ):
        summary.count(error, False)
    assert summary.reasons == {"p2.csv row N: the abstract is empty": 3, "no daemon at 127.0.0.1:11434; start it": 2}
