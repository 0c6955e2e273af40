"""The engine: questions from many threads in, answers of one worker out. It knows nothing of HTTP.

1. One thread computes. While it is busy questions wait, and what waits is answered together, up to `max_batch`
   histories; waiting on purpose (`wait_seconds`) is off: it adds its length to every answer of a quiet server.
2. An answer is that of `Recommender.recommend`, to the last bit, whatever company it has and whatever was read before
   (see `flr.blocks`). `warm_up` checks this on the machine at hand; where it does not hold, histories are
   computed one by one and nothing is kept of them, or, as asked, quickly and to rounding.
3. The queue is bounded: what does not fit is refused at once with the time after which to come back. Other work counts
   against other work only.
4. A question that was cancelled or is too late is dropped before it costs anything; what takes several batches is
   dropped between them.
5. Other work, such as an explanation, takes long and pauses now and then; lists that wait are answered in its pauses.
6. `close` refuses new questions, answers those accepted, and returns.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import torch

from flr.errors import ClosedError, DeadlineError, OverloadedError
from flr.recommender import Recommender
from flr.serving.batches import Batches
from flr.serving.prefix_cache import PrefixCache
from flr.serving.questions import EngineCounts, EngineSettings, Job, Lists, Question, UnwantedError
from flr.snapshot import Snapshot


class Engine:
    """Answers questions in one thread; see the module's docstring.

    Args:
        recommender: The model and its live catalogue.
        settings: How to work.

    Attributes:
        counts: What was done so far.
        is_exact: Whether `warm_up` found batches and cached beginnings exact to the bit; None before.
    """

    def __init__(self, recommender: Recommender, settings: EngineSettings | None = None) -> None:
        self.recommender = recommender
        self.settings = settings or EngineSettings()
        self.counts = EngineCounts()
        self._batches = Batches(recommender, self.settings, self.counts)
        self.is_exact: bool | None = None
        self._queue: deque[Job] = deque()
        self._now: Sequence[Job] = ()
        self._waiting = {True: 0, False: 0}  # histories of lists, and of other work
        self._changed = threading.Condition()
        self._closing, self._failed = False, False
        self._seconds_per_history = 0.02
        self._thread = threading.Thread(target=self._work, name="flr-engine", daemon=True)
        self._thread.start()

    @property
    def cache(self) -> PrefixCache:
        """What was read of histories."""
        return self._batches.cache

    @property
    def is_ready(self) -> bool:
        """Whether the engine is warm and takes questions."""
        return self.is_exact is not None and not self._closing and self._thread.is_alive()

    @property
    def has_failed(self) -> bool:
        """Whether the engine will not be ready any more: it could not be warmed up, or its thread has ended."""
        return self._failed or not (self._closing or self._thread.is_alive())

    @property
    def n_queued(self) -> int:
        """Histories that wait."""
        return sum(self._waiting.values())

    def ask(self, questions: Sequence[Question], *, snapshot: Snapshot, timeout_seconds: float) -> Future[Lists]:
        """Accept questions about one snapshot; the future gives one list for each, and cancels them.

        Raises:
            OverloadedError: Too much waits already.
            ClosedError: The engine is closing.
        """
        deadline = time.monotonic() + timeout_seconds
        job = Job(Future(), deadline, max(1, len(questions)), snapshot, tuple(questions))
        self._accept(job)
        return job.future

    def run(self, work: Callable[[], Any], *, timeout_seconds: float, size: int = 1) -> Future[Any]:
        """Accept other work for the engine's thread, such as an explanation.

        Args:
            work: What is to be done; it should call `pause` now and then.
            timeout_seconds: After which nobody wants it any more.
            size: Histories that it takes as long as.

        Raises:
            OverloadedError, ClosedError: As `ask`.
        """
        job = Job(Future(), time.monotonic() + timeout_seconds, size, work=work)
        self._accept(job)
        return job.future

    def pause(self) -> None:
        """Answer the lists that wait, up to `max_batch` histories; called by other work in the engine's thread.

        Raises:
            UnwantedError: Nobody waits for this work any more; the engine awaits it.
        """
        self._check_wanted()
        resumed = self._now
        with self._changed:
            lists = self._taken(only_lists=True)
        self._do(lists)
        self._now = resumed

    def warm_up(self) -> bool:
        """Compute a few answers, so that later ones are quick, and check that company does not change them.

        Returns:
            Whether batches and cached beginnings are exact to the bit here; if not, neither is used from now on,
            unless the settings ask for fast ones.

        Raises:
            ClosedError: The engine was closed meanwhile.
        """
        try:
            return bool(self.run(self._settle_exactness, timeout_seconds=600).result())
        except ClosedError:
            raise
        except Exception:
            self._failed = True
            raise

    def _settle_exactness(self) -> bool:
        """Check what `warm_up` promises and act on it, before any question that waits is answered."""
        exact = bool(self._batches.are_exact(self._check_open))
        if not exact and self.settings.batches == "exact":
            self._batches.go_alone()
        self.cache.clear()
        self.is_exact = exact
        return exact

    def close(self, timeout_seconds: float | None = None) -> None:
        """Refuse new questions, answer those accepted, stop."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_seconds)

    def _check_open(self) -> None:
        if self._closing:
            raise ClosedError("the server was stopped before it was ready")

    def _accept(self, job: Job) -> None:
        with self._changed:
            if self._closing:
                raise ClosedError("the server is about to stop; ask another one")
            # Lists need not wait for other work to end, so it does not count against them.
            waiting = self._waiting[True] if job.is_list else self.n_queued
            if waiting and waiting + job.size > self.settings.max_queued:
                self.counts.refused += 1
                seconds = max(1, round(waiting * self._seconds_per_history))
                raise OverloadedError(
                    f"{waiting} histories wait already, at most {self.settings.max_queued} may; "
                    f"try again in {seconds} s",
                    seconds,
                )
            self._queue.append(job)
            self._waiting[job.is_list] += job.size
            self._changed.notify_all()

    def _check_wanted(self) -> None:
        if not any(job.is_wanted for job in self._now):
            raise UnwantedError

    def _work(self) -> None:
        while (batch := self._collect()) is not None:
            self._do(batch)

    def _collect(self) -> list[Job] | None:
        """Return the jobs that are done next together, none when all were dropped; None when it is time to stop."""
        with self._changed:
            while not self._queue:
                if self._closing:
                    return None
                self._changed.wait()
            if self.settings.wait_seconds and not self._closing:
                until = time.monotonic() + self.settings.wait_seconds
                while self.n_queued < self._batches.max_batch and (left := until - time.monotonic()) > 0:
                    self._changed.wait(left)
            return self._taken()

    def _taken(self, *, only_lists: bool = False) -> list[Job]:
        """Take out of the queue what is done next together, in order of arrival, and drop what nobody wants.

        Args:
            only_lists: Pass over other work, which is done alone otherwise.
        """
        batch, left = list[Job](), deque[Job]()
        n_rows, is_full = 0, False
        for job in self._queue:
            if only_lists and not job.is_list:
                left.append(job)
                continue
            is_full = is_full or bool(batch and (not job.is_list or n_rows + job.size > self._batches.max_batch))
            if is_full:
                left.append(job)
                continue
            self._waiting[job.is_list] -= job.size
            if not job.is_wanted:
                self._drop(job)
                continue
            batch.append(job)
            n_rows += job.size
            is_full = not job.is_list
        self._queue = left
        return batch

    def _do(self, batch: Sequence[Job]) -> None:
        started, before = time.monotonic(), self.counts.busy_seconds
        if batch and batch[0].work is not None:
            self._do_work(batch[0], batch[0].work)
        elif batch:
            self.counts.questions += len(batch)
            self._answer(batch)
        self._now = ()
        seconds = time.monotonic() - started - (self.counts.busy_seconds - before)  # less that of its pauses
        self.counts.busy_seconds += seconds
        if n := sum(job.size for job in batch if job.is_list):  # other work says nothing of how long lists wait
            self._seconds_per_history += 0.1 * (seconds / n - self._seconds_per_history)

    def _drop(self, job: Job) -> None:
        if job.future.set_running_or_notify_cancel():
            self.counts.expired += 1
            job.future.set_exception(DeadlineError("the question took too long and was dropped; try again later"))
        else:
            self.counts.cancelled += 1

    def _do_work(self, job: Job, work: Callable[[], Any]) -> None:
        self._now = (job,)
        try:
            with torch.inference_mode():
                found = work()
        except UnwantedError:
            self._drop(job)
        except Exception as error:
            job.fail(error)
        else:
            job.settle(found)

    def _answer(self, batch: Sequence[Job]) -> None:
        self._now = batch
        try:
            asked = [(job.snapshot, question) for job in batch for question in job.questions]
            answers = self._batches.lists(asked, self._check_wanted)
        except UnwantedError:
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
