"""Work aside runs in a thread of its own, without gradients, and gives back what it returns or raises."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from flr.sequential.assistant import aside

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_caller_goes_on_while_work_is_done() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        assert may_end.wait(10)
        return threading.get_ident()

    wait = aside(work, CPU)
    assert begun.wait(10), "it did not begin while the caller went on"
    may_end.set()
    assert wait() != threading.get_ident()


def test_what_has_not_begun_is_done_by_who_asks() -> None:
    may_end = threading.Event()
    first = aside(lambda: may_end.wait(10), CPU)
    assert aside(threading.get_ident, CPU)() == threading.get_ident()
    may_end.set()
    assert first()


def test_its_error_is_raised_where_the_result_is_asked_for() -> None:
    wait = aside(lambda: 1 // 0, CPU)
    with pytest.raises(ZeroDivisionError):
        wait()


def test_it_takes_over_the_callers_mode_and_never_keeps_gradients() -> None:
    weight = torch.ones(2, requires_grad=True)
    with torch.inference_mode():
        assert aside(lambda: weight * 2, CPU)().is_inference()
    outside = aside(lambda: weight * 2, CPU)()
    assert not outside.is_inference()
    assert not outside.requires_grad
    assert torch.is_grad_enabled(), "the caller's own mode stays"


def test_where_one_operation_may_use_several_threads_it_is_done_at_once() -> None:
    torch.set_num_threads(2)
    assert aside(threading.get_ident, CPU)() == threading.get_ident()
