"""The service: what it accepts, how long it takes it for, and when it leaves it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flr.errors import ClosedError, OverloadedError
from flr.serving.contract import ExplainRequest, RecommendRequest
from flr.serving.service import Service
from flr.serving.settings import ServeSettings
from flr.snapshot import Snapshot
from serving.conftest import make_recommender

HISTORY = [f"i{number}" for number in range(10)] * 2


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service(make_recommender(), ServeSettings(max_queued=40))
    yield service
    service.close()


def keep_busy(service: Service) -> threading.Event:
    """Keep the engine from anything else until an event is set."""
    go_on, begun = threading.Event(), threading.Event()
    service.engine.run(lambda: (begun.set(), go_on.wait(60)), timeout_seconds=60)
    assert begun.wait(10)
    return go_on


def test_an_edit_that_is_being_written_ends_before_the_journal_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, writing, may_end, fsync = tmp_path / "journal", threading.Event(), threading.Event(), os.fsync
    service = Service(make_recommender(), ServeSettings(journal=path))

    def slow(number: int) -> None:
        writing.set()
        assert may_end.wait(60)
        fsync(number)

    monkeypatch.setattr(os, "fsync", slow)
    with ThreadPoolExecutor(2) as pool:
        edit = pool.submit(service.remove_items, ["i1"])
        assert writing.wait(60)
        closing = pool.submit(service.close)
        with pytest.raises(TimeoutError):
            closing.result(0.3)
        may_end.set()
        assert edit.result(60).version == 1
        closing.result(60)
    monkeypatch.undo()
    with pytest.raises(ClosedError, match="about to stop"):
        service.remove_items(["i2"])
    again = Service(make_recommender(), ServeSettings(journal=path))
    assert (again.n_items, again.version) == (10, 1)
    again.close()


def test_an_explanation_that_nobody_waits_for_is_left(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    model, n_reads = service.recommender.model, 0
    read = model.read

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal n_reads
        n_reads += 1
        if n_reads == stop_at:
            assert accepted.answer.cancel()
        return read(*arguments, **options)

    monkeypatch.setattr(model, "read", counted)
    monkeypatch.setattr("flr.snapshot._CPU_MB", 0)  # one history at a time
    stop_at = 0
    accepted = service.explain(ExplainRequest(history=HISTORY))
    assert accepted.answer.result(60)["explanation"]["item"]
    assert n_reads > 3
    n_reads, stop_at = 0, 2
    service.engine.run(lambda: None, timeout_seconds=60).result(60)
    accepted = service.explain(ExplainRequest(history=HISTORY))
    service.engine.run(lambda: None, timeout_seconds=60).result(60)
    assert n_reads == 2
    assert service.engine.counts.cancelled == 1


def test_a_test_of_an_explanation_that_nobody_waits_for_is_left(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_scored = 0
    score_best = Snapshot.score_best

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal n_scored
        n_scored += 1
        assert accepted.answer.cancel()
        return score_best(*arguments, **options)

    monkeypatch.setattr(Snapshot, "score_best", counted)
    go_on = keep_busy(service)
    accepted = service.explain(ExplainRequest(history=HISTORY, fidelity=True))
    go_on.set()
    service.close()  # once everything is done
    assert n_scored == 1
    assert service.engine.counts.cancelled == 1


@pytest.mark.parametrize(("fidelity", "size"), [(False, 21), (True, 162)])
def test_an_explanation_waits_as_the_histories_that_it_reads(fidelity: bool, size: int, service: Service) -> None:
    asked = ExplainRequest(history=HISTORY, fidelity=fidelity)
    go_on = keep_busy(service)
    accepted = service.explain(asked)
    assert service.engine.n_queued == size
    with pytest.raises(OverloadedError, match=f"{size} histories wait already"):
        service.explain(asked)
    go_on.set()
    assert accepted.answer.result(60)
    assert service.engine.n_queued == 0


def test_lists_and_explanations_are_the_same_when_they_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(make_recommender(), ServeSettings(timeout_seconds=60))
    monkeypatch.setattr("flr.snapshot._CPU_MB", 0)  # one history at a time
    asked, wanted = ExplainRequest(history=HISTORY, fidelity=True), RecommendRequest(histories=[HISTORY[:3], HISTORY])
    alone, expected = service.explain(asked).answer.result(60), service.recommend(wanted).answer.result(60)
    done = list[str]()
    go_on = keep_busy(service)
    explained = service.explain(asked).answer
    lists = [service.recommend(wanted).answer for _ in range(3)]
    explained.add_done_callback(lambda _: done.append("explanation"))
    for future in lists:
        future.add_done_callback(lambda _: done.append("lists"))
    go_on.set()
    assert explained.result(60) == alone
    assert [future.result(60) for future in lists] == [expected] * 3
    assert done == ["lists"] * 3 + ["explanation"]
    service.close()


def test_a_saved_model_is_known_by_its_id(saved: Path, tmp_path: Path) -> None:
    make_recommender("seed=1").save(tmp_path / "other")
    services = [Service.load(folder, ServeSettings()) for folder in (saved, saved, tmp_path / "other")]
    one, again, other = [service.model_id for service in services]
    assert one == again != other
    for service in services:
        service.close()
