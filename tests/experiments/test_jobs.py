"""Jobs are done in processes of their own, after those they build on; what fails stops only what builds on it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from flr.data.storage import load_prepared
from flr.experiments.jobs import Job, run_jobs


def job(name: str, *after: str, broken: bool = False) -> Job:
    do = partial(load_prepared, Path("nowhere")) if broken else partial(str.upper, name)
    return Job(name, Path(name), tuple(map(Path, after)), do)  # type: ignore[arg-type]


def test_jobs_wait_for_those_before_them_and_fail_with_them() -> None:
    todo = [
        job("last", "first", "earlier"),
        job("lost", "broken"),
        job("more lost", "lost"),
        job("broken", broken=True),
        job("first"),
    ]
    results = {result.job.name: result for result in run_jobs(todo, title="t", jobs=2, done=[Path("earlier")])}
    assert len(results) == 5
    assert (results["first"].told, results["last"].told) == ("FIRST", "LAST")
    assert "nowhere" in str(results["broken"].error)
    assert {results[name].error for name in ("lost", "more lost")} == {"what it starts from failed"}
    order = list(results)
    assert order.index("first") < order.index("last")


def test_nothing_to_do_starts_no_process() -> None:
    assert run_jobs([], title="t") == []
