"""The engine: the recommender's answers to the bit, a bounded queue, nothing computed for nobody."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Literal

import numpy as np
import pytest

from flr.catalogue.filters import ItemFilter
from flr.errors import ClosedError, DeadlineError, OverloadedError, RequestError
from flr.lists import Asked, Recommendation
from flr.recommender import Recommender
from flr.serving import batches
from flr.serving.batches import Batches
from flr.serving.engine import Engine
from flr.serving.questions import EngineSettings, Question
from flr.snapshot import Snapshot
from serving.conftest import histories_of, make_recommender


@pytest.fixture
def engine(recommender: Recommender) -> Iterator[Engine]:
    engine = Engine(recommender, EngineSettings())
    yield engine
    engine.close(10)


def ask(engine: Engine, history: list[str], timeout_seconds: float = 60, **options: object) -> Future[object]:
    index = engine.recommender.resolve([history]).item_index
    question = Question(index, **options)  # type: ignore[arg-type]
    return engine.ask([question], snapshot=engine.recommender.snapshot, timeout_seconds=timeout_seconds)  # type: ignore[return-value]


class Held:
    """Keeps the engine's thread busy until it is let go."""

    def __init__(self, engine: Engine) -> None:
        self._go, self._busy = threading.Event(), threading.Event()
        self.future = engine.run(self._wait, timeout_seconds=60)
        assert self._busy.wait(10)

    def _wait(self) -> None:
        self._busy.set()
        assert self._go.wait(60)

    def let_go(self) -> None:
        self._go.set()


@pytest.mark.parametrize("size", [1, 2, 5, 16, 40])
def test_answers_are_the_recommenders_to_the_bit_in_any_company(size: int, recommender: Recommender) -> None:
    histories = histories_of(40)
    expected = [recommender.recommend([history], 5)[0] for history in histories]
    engine = Engine(recommender, EngineSettings(max_batch=size))
    held = Held(engine)
    futures = [ask(engine, history, k=5) for history in histories]
    held.let_go()
    assert [future.result(60)[0] for future in futures] == expected  # type: ignore[index]
    assert max(engine.counts.batch_sizes) == size
    engine.close(10)


def test_a_history_that_grew_is_read_on_with_the_same_bits(engine: Engine) -> None:
    for history in histories_of(10, longest=29, seed=3):
        for n in range(1, len(history) + 1):
            (found,) = ask(engine, history[:n], k=4).result(60)  # type: ignore[misc]
            assert found == engine.recommender.recommend([history[:n]], 4)[0]
    assert engine.cache.n_reused > engine.cache.n_read


def test_long_histories_that_grow_get_the_same_bits_and_are_read_on() -> None:
    recommender = make_recommender("text.window=300", "reasoner.memory=transitions")
    engine = Engine(recommender, EngineSettings())
    assert engine.warm_up()
    n_reused, n_read = engine.cache.n_reused, engine.cache.n_read
    history = [f"i{item}" for item in np.random.default_rng(5).integers(0, 11, 240)]
    for n in range(150, 240, 9):
        (found,) = ask(engine, history[:n], k=4).result(60)  # type: ignore[misc]
        assert found == recommender.recommend([history[:n]], 4)[0]
    assert engine.cache.n_reused - n_reused > 2 * (engine.cache.n_read - n_read)
    engine.close(10)


def test_questions_of_every_kind_may_wait_together(engine: Engine) -> None:
    recommender = engine.recommender
    histories = histories_of(6, seed=5)
    only = ItemFilter(where={"year": [1990, 1995]})
    allowed = recommender.snapshot.live.allowed(only, 1, unknown="error")
    assert allowed is not None
    kinds: list[tuple[dict[str, object], dict[str, object]]] = [
        ({}, {}),
        ({"k": 3}, {"k": 3}),
        ({"exclude_seen": False}, {"exclude_seen": False}),
        ({"allowed": allowed.masks[0]}, {"filters": only}),
        ({"factor_weights": (0.0, 1.0, 2.0, 1.0)}, {"factor_weights": [0, 1, 2, 1]}),
        ({"diversify": "factors"}, {"diversify": "factors"}),
    ]
    held = Held(engine)
    futures = [ask(engine, history, **mine) for mine, _ in kinds for history in histories]
    held.let_go()
    expected = [recommender.recommend([history], **its)[0] for _, its in kinds for history in histories]  # type: ignore[arg-type]
    assert [future.result(60)[0] for future in futures] == expected  # type: ignore[index]


def test_warming_up_finds_that_answers_are_exact(engine: Engine) -> None:
    assert engine.is_exact is None
    assert not engine.is_ready
    assert engine.warm_up()
    assert engine.is_exact
    assert engine.is_ready
    assert engine.cache.n_tokens == 0


@pytest.mark.parametrize(("batches", "together", "kept"), [("exact", 1, 0), ("fast", 5, 32_768)])
def test_where_batches_are_not_exact_everything_is_computed_alone_unless_it_is_to_be_fast(
    batches: Literal["exact", "fast"],
    together: int,
    kept: int,
    recommender: Recommender,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def blurred(snapshot: object, asked: Asked) -> list[list[Recommendation]]:
        n = len(asked.histories)
        return [[Recommendation("i0", "x", 0.5, -0.7 + 1e-9 * n)] for _ in range(n)]

    monkeypatch.setattr("flr.serving.batches.best_lists", blurred)
    engine = Engine(recommender, EngineSettings(batches=batches))
    assert not engine.warm_up()
    assert engine.is_exact is False
    held = Held(engine)
    futures = [ask(engine, ["i1"]) for _ in range(5)]
    held.let_go()
    assert {future.result(60)[0][0].log_prob for future in futures} == {-0.7 + 1e-9 * together}  # type: ignore[index]
    assert engine.cache.max_tokens == kept
    engine.close(10)


def test_closing_ends_the_check(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    n_lists, best = 0, batches.best_lists

    def closed_meanwhile(snapshot: Snapshot, asked: Asked) -> list[list[Recommendation]]:
        nonlocal n_lists
        n_lists += 1
        engine._closing = n_lists == 3
        return best(snapshot, asked)

    monkeypatch.setattr("flr.serving.batches.best_lists", closed_meanwhile)
    with pytest.raises(ClosedError, match="stopped before it was ready"):
        engine.warm_up()
    assert n_lists == 3
    assert not engine.has_failed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_whose_thread_has_ended_has_failed_unless_it_was_closed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not engine.has_failed
    ended = Engine(engine.recommender)
    ended.close(10)
    assert not ended.has_failed
    monkeypatch.setattr(engine, "_do", lambda _: sys.exit())
    ask(engine, ["i1"])
    engine._thread.join(10)
    assert engine.has_failed


def test_questions_that_wait_for_the_check_are_answered_as_it_finds(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    checking, may_end = threading.Event(), threading.Event()

    def is_exact(*_: object) -> bool:
        checking.set()
        assert may_end.wait(60)
        return False

    monkeypatch.setattr(Batches, "are_exact", is_exact)
    engine = Engine(recommender, EngineSettings())
    with ThreadPoolExecutor(1) as pool:
        warm = pool.submit(engine.warm_up)
        assert checking.wait(60)
        futures = [ask(engine, history) for history in histories_of(5)]
        may_end.set()
        assert not warm.result(60)
    assert all(future.result(60) for future in futures)
    assert list(engine.counts.batch_sizes) == [1] * 5
    engine.close(10)


def test_a_full_queue_refuses_and_says_when_to_come_back(recommender: Recommender) -> None:
    engine = Engine(recommender, EngineSettings(max_queued=3))
    held = Held(engine)
    accepted = [ask(engine, ["i1"]) for _ in range(3)]
    with pytest.raises(OverloadedError, match="3 histories wait already, at most 3 may; try again in 1 s") as refused:
        ask(engine, ["i1"])
    assert refused.value.retry_after_seconds == 1
    held.let_go()
    assert all(future.result(60) for future in accepted)
    assert engine.counts.refused == 1
    assert engine.n_queued == 0
    engine.close(10)


def test_how_long_other_work_takes_says_nothing_of_when_to_come_back(recommender: Recommender) -> None:
    engine = Engine(recommender, EngineSettings(max_queued=100))
    engine.run(lambda: time.sleep(1), timeout_seconds=60).result(60)
    held = Held(engine)
    accepted = engine.ask([Question(np.array([1]))] * 100, snapshot=recommender.snapshot, timeout_seconds=60)
    with pytest.raises(OverloadedError, match="try again in 2 s"):
        ask(engine, ["i1"])
    held.let_go()
    accepted.result(60)
    engine.close(10)


def test_other_work_takes_no_list_its_place(recommender: Recommender) -> None:
    engine = Engine(recommender, EngineSettings(max_queued=3))
    held = Held(engine)
    works = [engine.run(lambda: "done", timeout_seconds=60, size=3)]
    lists = [ask(engine, ["i1"]) for _ in range(3)]
    assert engine.n_queued == 6
    for one_more in (lambda: ask(engine, ["i1"]), lambda: engine.run(lambda: None, timeout_seconds=60)):
        with pytest.raises(OverloadedError, match=r"[36] histories wait already"):
            one_more()
    held.let_go()
    assert [work.result(60) for work in works] == ["done"]
    assert all(future.result(60) for future in lists)
    assert engine.n_queued == 0
    engine.close(10)


def test_what_was_cancelled_or_is_too_late_costs_nothing(engine: Engine) -> None:
    held = Held(engine)
    cancelled, late, kept = ask(engine, ["i1"]), ask(engine, ["i2"], timeout_seconds=0.01), ask(engine, ["i3"])
    assert cancelled.cancel()
    time.sleep(0.05)
    held.let_go()
    assert kept.result(60)
    with pytest.raises(CancelledError):
        cancelled.result(1)
    with pytest.raises(DeadlineError, match="took too long"):
        late.result(60)
    assert (engine.counts.cancelled, engine.counts.expired, engine.counts.histories) == (1, 1, 1)


@pytest.mark.parametrize("goes_away", [True, False])
def test_many_histories_are_dropped_between_batches_when_nobody_waits(
    goes_away: bool, recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(recommender, EngineSettings(max_batch=2))
    begun, go_on = threading.Event(), threading.Event()

    def held(_: object, asked: Asked) -> list[list[Recommendation]]:
        begun.set()
        assert go_on.wait(10)
        return [[] for _ in range(len(asked.histories))]

    monkeypatch.setattr("flr.serving.batches.best_lists", held)
    questions = [Question(recommender.resolve([history]).item_index) for history in histories_of(10)]
    future = engine.ask(questions, snapshot=recommender.snapshot, timeout_seconds=60 if goes_away else 0.2)
    assert begun.wait(10)
    if goes_away:
        assert future.cancel()
    time.sleep(0.3)
    go_on.set()
    monkeypatch.undo()
    assert ask(engine, ["i1"]).result(60)
    with pytest.raises(CancelledError if goes_away else DeadlineError):
        future.result(10)
    assert engine.counts.histories == 2 + 1
    assert (engine.counts.cancelled, engine.counts.expired) == ((1, 0) if goes_away else (0, 1))
    engine.close(10)


def test_lists_are_answered_while_other_work_pauses(recommender: Recommender) -> None:
    engine, done = Engine(recommender, EngineSettings(max_batch=2)), list[str]()
    begun, go_on = threading.Event(), threading.Event()

    def long_work(name: str) -> None:
        begun.set()
        assert go_on.wait(10)
        for _ in range(2):
            engine.pause()
        done.append(name)

    works = [engine.run(lambda name=name: long_work(name), timeout_seconds=60) for name in ("first", "second")]
    assert begun.wait(10)
    histories = histories_of(5)
    lists = [ask(engine, history, k=5) for history in histories]
    for number, future in enumerate(lists):
        future.add_done_callback(lambda _, name=f"list {number}": done.append(name))
    go_on.set()
    for work in works:
        work.result(60)
    engine.close(10)
    assert done == ["list 0", "list 1", "list 2", "list 3", "first", "list 4", "second"]
    assert [future.result(1)[0] for future in lists] == [recommender.recommend([one], 5)[0] for one in histories]  # type: ignore[index]
    assert list(engine.counts.batch_sizes) == [2, 2, 1]


def test_lists_behind_other_work_are_answered_in_the_same_pause(recommender: Recommender) -> None:
    engine, done = Engine(recommender, EngineSettings(max_batch=2)), list[str]()
    begun, go_on = threading.Event(), threading.Event()

    def long_work() -> None:
        begun.set()
        assert go_on.wait(10)
        engine.pause()
        done.append("first")

    works = [engine.run(long_work, timeout_seconds=60)]
    assert begun.wait(10)
    lists = [ask(engine, ["i1"])]
    works.append(engine.run(lambda: done.append("second"), timeout_seconds=60))
    lists.append(ask(engine, ["i2"]))
    for name, future in zip("ab", lists, strict=True):
        future.add_done_callback(lambda _, name=name: done.append(f"list {name}"))
    go_on.set()
    for one in (*works, *lists):
        one.result(60)
    engine.close(10)
    assert done == ["list a", "list b", "first", "second"]
    assert list(engine.counts.batch_sizes) == [2]


def test_work_that_nobody_waits_for_any_more_ends_in_its_pause(engine: Engine) -> None:
    begun, go_on, went_on = threading.Event(), threading.Event(), False

    def work() -> None:
        nonlocal went_on
        begun.set()
        assert go_on.wait(10)
        engine.pause()
        went_on = True

    future = engine.run(work, timeout_seconds=60)
    assert begun.wait(10)
    assert future.cancel()
    waiting = ask(engine, ["i1"])
    go_on.set()
    assert waiting.result(60)
    assert not went_on
    assert engine.counts.cancelled == 1


def test_pauses_are_no_part_of_what_work_takes(engine: Engine) -> None:
    started = time.monotonic()
    held = Held(engine)

    def pausing() -> None:
        for _ in range(50):
            engine.pause()

    work = engine.run(pausing, timeout_seconds=60)
    lists = [ask(engine, history) for history in histories_of(20)]
    held.let_go()
    assert work.result(60) is None
    assert all(future.result(60) for future in lists)
    engine.close(10)
    assert engine.counts.busy_seconds <= time.monotonic() - started


def test_closing_answers_what_was_accepted_and_refuses_the_rest(recommender: Recommender) -> None:
    engine = Engine(recommender)
    held = Held(engine)
    accepted = [ask(engine, history) for history in histories_of(20)]
    closing = threading.Thread(target=engine.close)
    closing.start()
    while not engine._closing:
        time.sleep(0.001)
    with pytest.raises(ClosedError, match="about to stop"):
        ask(engine, ["i1"])
    held.let_go()
    closing.join(60)
    assert not closing.is_alive()
    assert all(future.done() and future.result() for future in accepted)


def test_one_bad_question_does_not_spoil_the_others(engine: Engine) -> None:
    held = Held(engine)
    good = ask(engine, ["i1"])
    bad = engine.ask([Question(np.array([99_999]))], snapshot=engine.recommender.snapshot, timeout_seconds=60)
    held.let_go()
    assert good.result(60) == [engine.recommender.recommend([["i1"]])[0]]
    with pytest.raises(RequestError, match="got item index 99999"):
        bad.result(60)
    assert ask(engine, ["i2"]).result(60)
    assert engine.counts.questions == 3


def test_the_cache_keeps_to_its_size_and_forgets_the_longest_unused() -> None:
    recommender = make_recommender()
    engine = Engine(recommender, EngineSettings(cache_tokens=160))
    histories = histories_of(30, longest=20, seed=9)
    for history in histories:
        assert ask(engine, history).result(60) == [recommender.recommend([history])[0]]
        assert engine.cache.n_tokens <= 160
    assert engine.cache.n_tokens > 100
    before = engine.cache.n_read
    ask(engine, histories[-1]).result(60)
    assert engine.cache.n_read - before < 16
    engine.close(10)
