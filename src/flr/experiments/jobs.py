"""Jobs of a study in processes of their own, several at a time, each after those it builds on."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import torch

from flr.errors import FlrError
from flr.progress import SILENT, Progress
from flr.training.machine import usable_cores


@dataclass(frozen=True)
class Job:
    """One piece of a study that a process does.

    Attributes:
        name: What is shown of it.
        folder: Where its results go.
        after: Folders of jobs that must be done before.
        do: Does it, or finds it done; returns what is told about it.
    """

    name: str
    folder: Path
    after: tuple[Path, ...]
    do: Callable[[], str]


@dataclass(frozen=True)
class JobResult:
    """What became of a job.

    Attributes:
        job: Which one.
        seconds: Spent on it by this call.
        told: What it came to.
        error: Why it failed; None where it did not.
    """

    job: Job
    seconds: float
    told: str
    error: str | None = None


def run_jobs(
    todo: Sequence[Job],
    *,
    title: str,
    jobs: int | None = None,
    done: Iterable[Path] = (),
    progress: Progress = SILENT,
) -> list[JobResult]:
    """Do jobs, in their order where nothing has to be waited for; what fails does not stop the rest.

    Args:
        todo: What is done.
        title: What is shown of all of them.
        jobs: Processes at a time, each with its share of the processor's cores; None takes one per core, or one in
            all where there is a GPU.
        done: Folders of earlier jobs that these may come after.
        progress: Told about finished jobs.
    """
    n_cores = usable_cores()
    jobs = jobs or (1 if torch.cuda.is_available() else n_cores)
    results: list[JobResult] = []
    if not todo:
        return results
    with progress.task(title, total=len(todo)) as step:
        for result in _finished(todo, min(jobs, len(todo)), max(1, n_cores // jobs), set(done)):
            results.append(result)
            told = result.told if result.error is None else f"failed, {result.error}"
            progress.message(f"{result.job.name}: {told} ({result.seconds:.0f} s)")
            step(1, result.job.name)
    return results


def _finished(todo: Sequence[Job], jobs: int, n_threads: int, done: set[Path]) -> Iterator[JobResult]:
    """Yield results as they come; a job waits for those before it, and fails with them."""
    waiting, failed = list(todo), set[Path]()
    # Forking a process in which torch's thread pools run would hang the child.
    context = multiprocessing.get_context("spawn")
    while waiting:
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(n_threads,)) as pool:
            for result in _finished_by(pool, waiting, jobs, (done, failed)):
                (done if result.error is None else failed).add(result.job.folder)
                yield result


def _finished_by(
    pool: ProcessPoolExecutor, waiting: list[Job], jobs: int, sorted_out: tuple[set[Path], set[Path]]
) -> Iterator[JobResult]:
    """Yield results until nothing is left to do, or until a process was killed: then nothing more can be asked for.

    Args:
        pool: Processes.
        waiting: What is to be done; what was begun is taken out.
        jobs: Processes at a time.
        sorted_out: Folders of what is done, and of what failed; whoever reads the results adds to them.
    """
    (done, failed), is_broken = sorted_out, False
    running: dict[Future[JobResult], Job] = {}
    while (waiting and not is_broken) or running:
        while lost := next((job for job in waiting if failed & set(job.after)), None):
            waiting.remove(lost)
            yield JobResult(lost, 0.0, "", "what it starts from failed")
        ready = [] if is_broken else [job for job in waiting if done >= set(job.after)]
        for job in ready[: jobs - len(running)]:
            try:
                running[pool.submit(_do, job)] = job
            except BrokenProcessPool:  # a process was killed while it had nothing to do
                is_broken = True
                break
            waiting.remove(job)
        if not running and not is_broken:
            yield from (JobResult(job, 0.0, "", "nobody makes what it starts from") for job in waiting)
            waiting.clear()
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            job = running.pop(future)
            try:
                yield future.result()
            except BrokenProcessPool:
                is_broken = True
                yield JobResult(job, 0.0, "", "a process was killed, perhaps for want of memory; --jobs 1 needs least")


def _begin(n_threads: int) -> None:
    """Set up a process; it ends with the one that started it, however that ends."""
    torch.set_num_threads(n_threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(job: Job) -> JobResult:
    """Do a job, in a process of its own."""
    started = time.perf_counter()
    try:
        told = job.do()
    except FlrError as error:
        return JobResult(job, time.perf_counter() - started, "", str(error))
    except Exception as error:  # a job that fails must not stop the others, whatever it fails of
        traceback.print_exc()
        return JobResult(job, time.perf_counter() - started, "", f"{type(error).__name__}: {error}")
    return JobResult(job, time.perf_counter() - started, told)
