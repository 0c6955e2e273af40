"""The engine: questions from many threads in, answers of one worker out. It knows nothing of HTTP.

1. One thread computes. While it is busy questions wait, and what waits is answered together, up to `max_batch`
   histories; waiting on purpose (`wait_seconds`) is off: it adds its length to every answer of a quiet server.
2. An answer is that of `Recommender.recommend`, to the last bit, whatever company it has and whatever was read before
   (see `flr.blocks`). `warm_up` checks this on the machine at hand; where it does not hold, histories are
   computed one by one and nothing is kept of them.
3. The queue is bounded: what does not fit is refused at once with the time after which to come back.
4. A question that was cancelled or is too late is dropped before it costs anything; what takes several batches is
   dropped between them.
5. `close` refuses new questions, answers those accepted, and returns.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch

from flr.catalogue.filters import AllowedItems
from flr.errors import ClosedError, DeadlineError, OverloadedError
from flr.lists import Asked, Recommendation, best_lists
from flr.recommender import Recommender
from flr.records import BoolArray, Histories, IntArray
from flr.serving.prefix_cache import PrefixCache
from flr.snapshot import Snapshot

#: Histories that the check at the start computes in several companies.
_N_CHECKED = 16


@dataclass(frozen=True)
class EngineSettings:
    """How the engine works.

    Attributes:
        max_batch: Histories computed together at most.
        wait_seconds: How long a question waits for company when the engine is idle.
        max_queued: Histories that may wait; further questions are refused.
        cache_tokens: Tokens of histories whose reading is kept; 0 keeps none.
    """

    max_batch: int = 16
    wait_seconds: float = 0.0
    max_queued: int = 256
    cache_tokens: int = 32_768


@dataclass(frozen=True)
class Question:
    """One history and what is asked about it; arguments as `Recommender.recommend` checks them.

    Attributes:
        history: Item indices, oldest first, at least one.
        k: Items wanted.
        exclude_seen: Leave out the items of the history.
        allowed: True at the items that may be recommended, [N]; None allows all.
        factor_weights: Multiplier of each factor's gate.
        diversify: ``"factors"``, or None.
    """

    history: IntArray
    k: int = 10
    exclude_seen: bool = True
    allowed: BoolArray | None = None
    factor_weights: tuple[float, ...] | None = None
    diversify: Literal["factors"] | None = None


Lists = list[list[Recommendation]]


@dataclass
class EngineCounts:
    """What the engine has done so far; read without a lock."""

    questions: int = 0
    histories: int = 0
    batches: int = 0
    cancelled: int = 0
    expired: int = 0
    refused: int = 0
    busy_seconds: float = 0.0
    batch_sizes: deque[int] = field(default_factory=lambda: deque(maxlen=1000))


class _UnwantedError(Exception):
    """Nobody waits any more for what is being computed."""


@dataclass(frozen=True)
class _Job:
    """What is to be done; its future can be cancelled until it is settled."""

    future: Future[Any]
    deadline: float
    size: int = 1
    snapshot: Snapshot | None = None
    questions: tuple[Question, ...] = ()
    work: Callable[[], Any] | None = None

    @property
    def is_wanted(self) -> bool:
        return not self.future.cancelled() and time.monotonic() <= self.deadline

    def settle(self, found: Any) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(found)

    def fail(self, error: Exception) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Engine:
    """Answers questions in one thread; see the module's docstring.

    Args:
        recommender: The model and its live catalogue.
        settings: How to work.

    Attributes:
        counts: What was done so far.
        cache: What was read of histories.
        is_exact: Whether `warm_up` found batches and cached beginnings exact to the bit; None before.
    """

    def __init__(self, recommender: Recommender, settings: EngineSettings | None = None) -> None:
        self.recommender = recommender
        self.settings = settings or EngineSettings()
        self.counts = EngineCounts()
        self.cache = PrefixCache(recommender.model.read, self.settings.cache_tokens)
        self.is_exact: bool | None = None
        self._queue: deque[_Job] = deque()
        self._now: Sequence[_Job] = ()
        self._n_queued = 0
        self._changed = threading.Condition()
        self._closing = False
        self._seconds_per_history = 0.02
        self._thread = threading.Thread(target=self._work, name="flr-engine", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether the engine is warm and takes questions."""
        return self.is_exact is not None and not self._closing and self._thread.is_alive()

    @property
    def n_queued(self) -> int:
        """Histories that wait."""
        return self._n_queued

    def ask(self, questions: Sequence[Question], *, snapshot: Snapshot, timeout_seconds: float) -> Future[Lists]:
        """Accept questions about one snapshot; the future gives one list for each, and cancels them.

        Raises:
            OverloadedError: Too much waits already.
            ClosedError: The engine is closing.
        """
        deadline = time.monotonic() + timeout_seconds
        job = _Job(Future(), deadline, max(1, len(questions)), snapshot, tuple(questions))
        self._accept(job)
        return job.future

    def run(self, work: Callable[[], Any], *, timeout_seconds: float, size: int = 1) -> Future[Any]:
        """Accept other work for the engine's thread, such as an explanation.

        Args:
            work: What is to be done; it may call `check_wanted` now and then.
            timeout_seconds: After which nobody wants it any more.
            size: Histories that it takes as long as.

        Raises:
            OverloadedError, ClosedError: As `ask`.
        """
        job = _Job(Future(), time.monotonic() + timeout_seconds, size, work=work)
        self._accept(job)
        return job.future

    def check_wanted(self) -> None:
        """Leave what is being computed, by an exception that the engine awaits, if nobody waits for it any more."""
        if not any(job.is_wanted for job in self._now):
            raise _UnwantedError

    def warm_up(self) -> bool:
        """Compute a few answers, so that later ones are quick, and check that company does not change them.

        Returns:
            Whether batches and cached beginnings are exact to the bit here; if not, neither is used from now on.
        """
        exact = bool(self.run(self._check, timeout_seconds=600).result())
        if not exact:
            self.settings = replace(self.settings, max_batch=1, cache_tokens=0)
            self.cache.max_tokens = 0
        self.cache.clear()
        self.is_exact = exact
        return exact

    def close(self, timeout_seconds: float | None = None) -> None:
        """Refuse new questions, answer those accepted, stop."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_seconds)

    def _accept(self, job: _Job) -> None:
        with self._changed:
            if self._closing:
                raise ClosedError("the server is about to stop; ask another one")
            if self._n_queued and self._n_queued + job.size > self.settings.max_queued:
                self.counts.refused += 1
                seconds = max(1, round(self._n_queued * self._seconds_per_history))
                raise OverloadedError(
                    f"{self._n_queued} histories wait already, at most {self.settings.max_queued} may; "
                    f"try again in {seconds} s",
                    seconds,
                )
            self._queue.append(job)
            self._n_queued += job.size
            self._changed.notify_all()

    def _work(self) -> None:
        while (batch := self._collect()) is not None:
            started = time.monotonic()
            if batch and batch[0].work is not None:
                self._do(batch[0], batch[0].work)
            elif batch:
                self._answer(batch)
            self._now = ()
            seconds, n = time.monotonic() - started, sum(job.size for job in batch)
            self.counts.busy_seconds += seconds
            if n:
                self._seconds_per_history += 0.1 * (seconds / n - self._seconds_per_history)

    def _collect(self) -> list[_Job] | None:
        """Return the jobs that are done next together, none when all were dropped; None when it is time to stop."""
        with self._changed:
            while not self._queue:
                if self._closing:
                    return None
                self._changed.wait()
            if self.settings.wait_seconds and not self._closing:
                until = time.monotonic() + self.settings.wait_seconds
                while self._n_queued < self.settings.max_batch and (left := until - time.monotonic()) > 0:
                    self._changed.wait(left)
            batch: list[_Job] = []
            n_rows = 0
            while self._queue:
                job = self._queue[0]
                alone = job.work is not None
                if batch and (alone or n_rows + job.size > self.settings.max_batch):
                    break
                self._queue.popleft()
                self._n_queued -= job.size
                if not job.is_wanted:
                    self._drop(job)
                    continue
                batch.append(job)
                n_rows += job.size
                if alone:
                    break
            return batch

    def _drop(self, job: _Job) -> None:
        if job.future.set_running_or_notify_cancel():
            self.counts.expired += 1
            job.future.set_exception(DeadlineError("the question took too long and was dropped; try again later"))
        else:
            self.counts.cancelled += 1

    def _do(self, job: _Job, work: Callable[[], Any]) -> None:
        self._now = (job,)
        try:
            with torch.inference_mode():
                found = work()
        except _UnwantedError:
            self._drop(job)
        except Exception as error:
            job.fail(error)
        else:
            job.settle(found)

    def _answer(self, batch: list[_Job]) -> None:
        self.counts.questions += len(batch)
        self._now = batch
        try:
            answers = self._lists([(job.snapshot, question) for job in batch for question in job.questions])
        except _UnwantedError:
            for job in batch:
                self._drop(job)
            return
        except Exception as error:
            if len(batch) == 1:
                batch[0].fail(error)
                return
            for job in batch:  # one of them is at fault; the others are not to suffer
                self._answer([job])
            return
        start = 0
        for job in batch:
            job.settle(answers[start : start + len(job.questions)])
            start += len(job.questions)

    def _lists(self, asked: Sequence[tuple[Snapshot | None, Question]]) -> Lists:
        """Return one list per question; those that ask alike are computed together."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for place, (snapshot, one) in enumerate(asked):
            kind = (id(snapshot and snapshot.live), one.k, one.exclude_seen, one.diversify)
            groups.setdefault((*kind, one.allowed is None, one.factor_weights is None), []).append(place)
        answers: list[list[Recommendation]] = [[] for _ in asked]
        for places in groups.values():
            for start in range(0, len(places), self.settings.max_batch):
                self.check_wanted()
                some = places[start : start + self.settings.max_batch]
                snapshot = asked[some[0]][0]
                assert snapshot is not None
                for place, found in zip(some, self._together(snapshot, [asked[p][1] for p in some]), strict=True):
                    answers[place] = found
        return answers

    def _together(self, snapshot: Snapshot, questions: Sequence[Question]) -> Lists:
        first = questions[0]
        self.counts.batches += 1
        self.counts.histories += len(questions)
        self.counts.batch_sizes.append(len(questions))
        masks = [one.allowed for one in questions if one.allowed is not None]
        weights = [one.factor_weights for one in questions if one.factor_weights is not None]
        asked = Asked(
            _histories([one.history for one in questions]),
            first.k,
            first.exclude_seen,
            weights or None,
            AllowedItems(np.array(masks), np.arange(len(masks))) if masks else None,
            first.diversify,
        )
        return best_lists(replace(snapshot, reader=self.cache), asked)

    def _check(self) -> bool:
        """Return whether some histories get the same lists alone, together, grown and cut short, to the bit."""
        snapshot, rng = self.recommender.snapshot, np.random.default_rng(0)
        window = snapshot.config.text.window
        lengths = rng.integers(1, window + 1, _N_CHECKED)
        histories = [rng.integers(0, snapshot.catalogue.n_items, length) for length in lengths]
        ask = [Question(history) for history in histories]
        plain = [self._anew(snapshot, [one])[0] for one in ask]
        self.cache.clear()
        for company in (_N_CHECKED, 5, 2):
            for start in range(0, _N_CHECKED, company):
                some = slice(start, start + company)
                # The first time nothing has been read; later all of it, or the half below.
                if self._together(snapshot, ask[some]) != plain[some]:
                    return False
            self.cache.clear()
            self._together(snapshot, [replace(one, history=one.history[: 1 + len(one.history) // 2]) for one in ask])
        return [self._together(snapshot, [one])[0] for one in ask] == plain

    def _anew(self, snapshot: Snapshot, questions: Sequence[Question]) -> Lists:
        return best_lists(
            snapshot, Asked(_histories([one.history for one in questions]), questions[0].k, exclude_seen=True)
        )


def _histories(rows: Sequence[IntArray]) -> Histories:
    return Histories(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))
