"""The guard keeps the best weights, rolls back, halves the rate, and stops."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from flr.training.guard import Guard


class Course:
    """A module in training whose weights are set to the step's number, under a guard."""

    def __init__(self, *, max_drop: float = 0.1, patience: int = 3) -> None:
        self.module = nn.Linear(2, 1)
        self.module.bias.requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=0.8)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1.0)
        self.guard = Guard(self.module, max_drop=max_drop, patience=patience)
        self.set(0)
        self.guard.begin({"ndcg@10": 0.5})

    def set(self, value: float) -> None:
        nn.init.constant_(self.module.weight, value)

    def validate(self, step: int, ndcg: float) -> bool:
        """Return whether the guard asks to stop."""
        self.set(step)
        self.module(torch.ones(1, 2)).sum().backward()
        self.optimizer.step()
        self.set(step)
        control = SimpleNamespace(should_training_stop=False)
        self.guard.on_evaluate(
            None,
            SimpleNamespace(global_step=step),
            control,
            metrics={"eval_ndcg@10": ndcg, "epoch": 1.0},
            optimizer=self.optimizer,
            lr_scheduler=self.scheduler,
        )
        return control.should_training_stop

    @property
    def weight(self) -> float:
        return self.module.weight[0, 0].item()


def test_the_best_weights_come_back() -> None:
    course = Course()
    assert not course.validate(1, 0.6)
    assert not course.validate(2, 0.59)
    assert course.weight == 2
    course.guard.restore()
    assert (course.weight, course.guard.best_step, course.guard.best_metrics) == (1.0, 1, {"ndcg@10": 0.6})


def test_where_nothing_is_better_stage_one_stays() -> None:
    course = Course()
    assert [course.validate(step, 0.5) for step in (1, 2, 3)] == [False, False, True]
    course.guard.restore()
    assert (course.weight, course.guard.best_step) == (0.0, 0)


def test_a_fall_rolls_back_forgets_momentum_and_halves_the_rate() -> None:
    course = Course()
    course.validate(1, 0.6)
    course.validate(2, 0.53)
    assert course.weight == 1.0
    assert course.guard.n_rollbacks == 1
    assert not course.optimizer.state
    assert course.optimizer.param_groups[0]["lr"] == 0.4
    course.scheduler.step()
    assert course.optimizer.param_groups[0]["lr"] == 0.4


def test_weights_that_are_no_numbers_are_noticed() -> None:
    course = Course()
    assert course.guard.is_finite()
    course.set(float("nan"))
    assert not course.guard.is_finite()


def test_what_is_saved_with_a_checkpoint_comes_back(tmp_path: Path) -> None:
    course = Course()
    course.validate(1, 0.6)
    course.validate(2, 0.5)
    for step in (2, 3, 4):
        course.guard.save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["guard-3.json", "guard-4.json"]
    other = Course()
    other.guard.load(tmp_path, 4)
    other.guard.restore()
    assert (other.weight, other.guard.best_step, other.guard.n_worse, other.guard.n_rollbacks) == (1.0, 1, 1, 1)
    assert other.guard.best_metrics == {"ndcg@10": 0.6}


@pytest.mark.parametrize("ndcg", [0.46, 0.5])
def test_a_small_fall_goes_on(ndcg: float) -> None:
    course = Course()
    course.validate(1, ndcg)
    assert (course.weight, course.guard.n_rollbacks, course.guard.n_worse) == (1.0, 0, 1)
