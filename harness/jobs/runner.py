"""Run a batch: bounded memory, every result in the journal before it is shown, each piece of work done once.

Worker threads suit the backends, which block. All bookkeeping happens in the caller's thread; workers only work and
write to the journal, so a kill at any moment costs at most the rows that were running.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from harness.errors import InputError, MarginaliaError, ModelUnavailable, NoModelError

if TYPE_CHECKING:
    from harness.jobs.journal import Journal

Result = dict[str, Any]
"""What a piece of work gives: a JSON object."""

ROWS_A_WORKER = 4
"""Rows read ahead of the results, for each worker: what bounds memory."""
GRACE_SECONDS = 3.0
"""How long running items may take to end once the batch is stopped."""
FIRST_DELAY = 0.5
"""Seconds before the first retry; each further one waits twice as long."""
LOST_ROWS = 3
"""Rows in a row without a backend, for all their retries, after which the others are not tried: it is gone."""
MOST_REASONS = 50
"""Distinct reasons that a summary counts; those beyond are counted as one."""
OTHER_REASONS = "other reasons"
_NUMBER = re.compile(r"\b\d+\b")


@dataclass(frozen=True)
class Item:
    """One row of a batch. ``key`` is its content address (``key_of``); ``error`` says why it cannot be worked on."""

    index: int
    key: str
    payload: Any = None
    error: str | None = None


class Cancelled(MarginaliaError):
    """Raised by work that stopped because its cancel event was set: the row is neither done nor failed."""

    def __init__(self) -> None:
        super().__init__("cancelled")


Work = Callable[[Item, threading.Event], Result]
OnDone = Callable[[int, Result | MarginaliaError, bool], None]


@dataclass
class BatchSummary:
    """What became of a batch; rows are counted, duplicates too."""

    done: int = 0
    """Rows with a result, the cached ones included."""
    cached: int = 0
    """Rows whose result came from the journal or from a duplicate in the batch."""
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """How many rows failed for which reason; those that differ in numbers alone (of rows, of lines) are one, with N."""
    seconds: float = 0.0
    _named: dict[str, str] = field(default_factory=dict)
    """Reason with N for its numbers → how it stands in ``reasons``."""

    @property
    def rate(self) -> float:
        """Rows worked on per second; those from the journal do not flatter it."""
        worked = self.done - self.cached + self.failed
        return worked / self.seconds if self.seconds > 0 else 0.0

    def count(self, outcome: Result | MarginaliaError, cached: bool) -> None:
        """Add one row."""
        if not isinstance(outcome, MarginaliaError):
            self.done += 1
            self.cached += cached
            return
        self.failed += 1
        reason = str(outcome)
        kind = _NUMBER.sub("N", reason)
        named = self._named.setdefault(kind, reason if len(self.reasons) < MOST_REASONS else OTHER_REASONS)
        if named not in (reason, kind, OTHER_REASONS):
            self.reasons[kind] = self.reasons.pop(named)
            named = self._named[kind] = kind
        self.reasons[named] += 1


def is_unavailable(error: MarginaliaError) -> bool:
    """The default of ``is_retryable``: the backend was busy, unreachable or died."""
    return isinstance(error, ModelUnavailable)


def run_batch(
    items: Iterable[Item],
    work: Work,
    *,
    journal: Journal,
    workers: int,
    on_done: OnDone,
    kind: str = "",
    retries: int = 3,
    is_retryable: Callable[[MarginaliaError], bool] = is_unavailable,
) -> BatchSummary:
    """Work on every item that the journal does not hold; call ``on_done(index, outcome, cached)`` once for each item.

    ``work(item, cancel)`` runs in one of ``workers`` threads and returns a JSON object, or raises: a retryable error is
    tried again up to ``retries`` times with back-off, any other MarginaliaError is the row's outcome at once. Errors
    are not journaled: the next run tries again. After LOST_ROWS rows in a row that no retry could save, the remaining
    ones get the same error without being tried. Where ``cancel`` is set, work should raise Cancelled soon.

    ``on_done`` is called in this thread in the order of completion. Items are read only a few ahead of the results.

    NoModelError, an error of the journal, an exception that is no MarginaliaError, one of ``items`` or ``on_done`` and
    KeyboardInterrupt stop the batch and are raised, after the running items had GRACE_SECONDS to end; what they finish
    by then is in the journal. Duplicates get the same object: ``on_done`` must not change it.
    """
    started = time.monotonic()
    batch = _Batch(_Attempts(work, journal, kind, retries, is_retryable), max(1, workers))
    summary = BatchSummary()

    def tell(index: int, outcome: Result | MarginaliaError, cached: bool) -> None:
        summary.count(outcome, cached)
        on_done(index, outcome, cached)

    try:
        for item in items:
            if item.error is not None:
                tell(item.index, InputError(item.error), False)
            elif batch.is_running(item.key):
                batch.submit(item)
            elif (known := journal.get(item.key)) is not None:
                tell(item.index, known, True)
            else:
                batch.submit(item)
            while batch.full or batch.has_finished:
                batch.collect(tell)
        while batch.waiting:
            batch.collect(tell)
    finally:
        batch.stop()
        summary.seconds = time.monotonic() - started
    return summary


@dataclass(frozen=True)
class _Attempts:
    """How a worker gets from an item to its journaled outcome."""

    work: Work
    journal: Journal
    kind: str
    retries: int
    is_retryable: Callable[[MarginaliaError], bool]

    def outcome(self, item: Item, cancel: threading.Event) -> Result | MarginaliaError:
        """The result, journaled, or the row's error. Raises what must stop the batch."""
        started = time.monotonic()
        try:
            result = self._persist(item, cancel)
        except NoModelError:
            raise
        except MarginaliaError as error:
            return error
        self.journal.put(item.key, result, kind=self.kind, seconds=time.monotonic() - started)
        return result

    def _persist(self, item: Item, cancel: threading.Event) -> Result:
        for attempt in range(self.retries):
            try:
                return self.work(item, cancel)
            except MarginaliaError as error:
                if not self.is_retryable(error):
                    raise
            delay = FIRST_DELAY * 2**attempt
            if cancel.wait(delay + random.uniform(0, delay / 2)):  # jitter: the workers do not come back all at once
                raise Cancelled
        return self.work(item, cancel)


@dataclass(frozen=True)
class _Finished:
    key: str
    outcome: Result | MarginaliaError


class _Batch:
    """The worker threads and the rows that wait for them. All methods belong to the caller's thread."""

    def __init__(self, attempts: _Attempts, workers: int) -> None:
        self._attempts = attempts
        self._limit = workers * ROWS_A_WORKER
        self._cancel = threading.Event()
        self._todo: SimpleQueue[Item | None] = SimpleQueue()
        self._finished: SimpleQueue[_Finished | BaseException] = SimpleQueue()
        self._rows: dict[str, list[int]] = {}
        self._failed_in_a_row = 0
        self._lost: MarginaliaError | None = None
        self.waiting = 0
        """Rows that were submitted and have no outcome yet."""
        # Daemons: work that ignores its cancel event must not keep the program from ending.
        self._threads = [threading.Thread(target=self._serve, name=f"job-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    @property
    def full(self) -> bool:
        return self.waiting >= self._limit

    @property
    def has_finished(self) -> bool:
        return not self._finished.empty()

    def is_running(self, key: str) -> bool:
        return key in self._rows

    def submit(self, item: Item) -> None:
        """Queue an item; one with the key of a running item only waits for that one's outcome."""
        self.waiting += 1
        if item.key in self._rows:
            self._rows[item.key].append(item.index)
            return
        self._rows[item.key] = [item.index]
        self._todo.put(item)

    def collect(self, tell: OnDone) -> None:
        """Wait for one outcome and tell it to all rows that wait for it. Raises what stops the batch."""
        finished = self._next()
        if isinstance(finished, BaseException):
            raise finished
        self._watch(finished.outcome)
        indices = self._rows.pop(finished.key)
        self.waiting -= len(indices)
        for position, index in enumerate(indices):
            tell(index, finished.outcome, position > 0)

    def _watch(self, outcome: Result | MarginaliaError) -> None:
        """Notice when the backend does not come back: each row would wait for it in vain."""
        unsaved = isinstance(outcome, MarginaliaError) and self._attempts.is_retryable(outcome)
        self._failed_in_a_row = self._failed_in_a_row + 1 if unsaved else 0
        if isinstance(outcome, MarginaliaError) and self._failed_in_a_row >= LOST_ROWS:
            self._lost = outcome

    def stop(self) -> None:
        """End the threads; those that are still working are told so and get a short while."""
        self._cancel.set()
        for _ in self._threads:
            self._todo.put(None)
        deadline = time.monotonic() + GRACE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _next(self) -> _Finished | BaseException:
        while True:
            try:
                return self._finished.get(timeout=0.5)  # Windows sees Ctrl-C only between waits
            except Empty:
                continue

    def _serve(self) -> None:
        while (item := self._todo.get()) is not None:
            if self._cancel.is_set():
                continue
            if self._lost is not None:
                self._finished.put(_Finished(item.key, self._lost))
                continue
            try:
                self._finished.put(_Finished(item.key, self._attempts.outcome(item, self._cancel)))
            except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
                self._finished.put(error)
