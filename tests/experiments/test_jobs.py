"""Jobs are done in processes of their own, after those they build on; what fails stops only what builds on it."""

from __future__ import annotations

import multiprocessing
import operator
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from flr.data.storage import load_prepared
from flr.experiments.jobs import Job, run_jobs
from flr.progress import Silent
from processes import is_gone, waited_for


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


def test_jobs_that_wait_for_what_nobody_makes_are_told_so() -> None:
    todo = [job("lost", "broken"), job("more lost", "lost"), job("broken", broken=True), job("odd", "elsewhere")]
    errors = {result.job.name: result.error for result in run_jobs(todo, title="t", jobs=1)}
    assert errors["odd"] == "nobody makes what it starts from"
    assert errors["lost"] == errors["more lost"] == "what it starts from failed"


def test_a_fault_or_a_killed_process_stops_nobody_else() -> None:
    todo = [
        Job("faulty", Path("faulty"), (), partial(operator.truediv, 1, 0)),  # type: ignore[arg-type]
        Job("killed", Path("killed"), (), partial(os._exit, 9)),
        job("lost", "killed"),
        job("last"),
    ]
    results = {result.job.name: result for result in run_jobs(todo, title="t", jobs=1)}
    assert results["faulty"].error == "ZeroDivisionError: division by zero"
    assert "a process was killed" in str(results["killed"].error)
    assert results["lost"].error == "what it starts from failed"
    assert (results["last"].told, len(results)) == ("LAST", 4)


def test_a_process_that_is_killed_between_jobs_ends_no_study() -> None:
    class KillsIdle(Silent):
        def message(self, text: str) -> None:
            for process in multiprocessing.active_children():
                process.kill()
                process.join()

    todo = [job(name) for name in ("first", "second", "third")]
    results = run_jobs(todo, title="t", jobs=1, progress=KillsIdle())
    assert [result.job.name for result in results] == ["first", "second", "third"]
    assert all(result.error is None or "a process was killed" in result.error for result in results)


def test_nothing_to_do_starts_no_process() -> None:
    assert run_jobs([], title="t") == []


def test_a_process_ends_with_the_one_that_was_killed(tmp_path: Path) -> None:
    """A study that is killed leaves nobody behind who goes on training."""
    script = tmp_path / "study.py"
    script.write_text(
        "import os, sys, time\n"
        "from functools import partial\n"
        "from pathlib import Path\n"
        "from flr.experiments.jobs import Job, run_jobs\n"
        "def work(path):\n"
        "    Path(path).write_text(str(os.getpid()))\n"
        "    time.sleep(300)\n"
        "if __name__ == '__main__':\n"
        "    run_jobs([Job('long', Path('long'), (), partial(work, sys.argv[1]))], title='t', jobs=1)\n"
    )
    pid = tmp_path / "pid"
    study = subprocess.Popen([sys.executable, str(script), str(pid)])
    try:
        assert waited_for(lambda: pid.exists() and pid.read_text())
    finally:
        study.kill()
        study.wait()
    assert waited_for(lambda: is_gone(int(pid.read_text())))
