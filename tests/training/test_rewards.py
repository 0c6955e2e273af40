"""Rewards by hand; what cannot be a reward is refused with what to do."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from flr.errors import ConfigError
from flr.training.rewards import Outcome, parse_reward


def outcome(asked: list[int | None] | None = None) -> Outcome:
    """Return two targets with three thoughts each; ranks 1, 2 (tied with 3) and 11, and 4, 1 and none."""

    def ranks(limit: int | None) -> tuple[np.ndarray, np.ndarray]:
        if asked is not None:
            asked.append(limit)
        return np.array([[0, 1, 10], [3, 0, 50]]), np.array([[1, 2, 1], [1, 1, 0]])

    log_probs = torch.tensor([[-1.0, -2.0, -4.0], [0.0, 0.0, 0.0]])
    return Outcome(log_probs, torch.tensor([2, 0]), torch.tensor([7, 8]), ranks)


def constant(found: Outcome) -> torch.Tensor:
    return torch.full_like(found.log_probs, 3.0)


def flat(found: Outcome) -> torch.Tensor:
    return found.log_probs.flatten()


def broken(found: Outcome) -> torch.Tensor:
    return found.log_probs * torch.nan


NOT_A_FUNCTION = 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("likelihood", [[math.exp(-0.5), math.exp(-1), math.exp(-2)], [1, 1, 1]]),
        ("log_likelihood", [[-1, -2, -4], [0, 0, 0]]),
        ("hr@10", [[1, 1, 0], [1, 1, 0]]),
        ("ndcg@10", [[1, (1 / math.log2(3) + 1 / 2) / 2, 0], [1 / math.log2(5), 1, 0]]),
        ("reciprocal_rank", [[1, (1 / 2 + 1 / 3) / 2, 1 / 11], [1 / 4, 1, 0]]),
        ("reciprocal_rank@3", [[1, (1 / 2 + 1 / 3) / 2, 0], [0, 1, 0]]),
        ("hr@10 + 0.5 * log_likelihood", [[0.5, 0, -2], [1, 1, 0]]),
        (".5*hr@10+1e-1*hr@1", [[0.6, 0.5, 0], [0.5, 0.6, 0]]),
        ("hr@10 - 5e-1 * log_likelihood", [[1.5, 2, 2], [1, 1, 0]]),
        ("- hr@1 + hr@10", [[0, 1, 0], [1, 0, 0]]),
        ("test_rewards:constant + hr@1", [[4, 3, 3], [3, 4, 3]]),
    ],
)
def test_rewards_by_hand(text: str, expected: list[list[float]]) -> None:
    torch.testing.assert_close(parse_reward(text)(outcome()), torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize(
    ("text", "limits"), [("likelihood", []), ("ndcg@10", [10]), ("reciprocal_rank + 0.1 * hr@5", [None, 5])]
)
def test_ranks_are_computed_only_as_deep_as_a_term_asks(text: str, limits: list[int | None]) -> None:
    asked: list[int | None] = []
    parse_reward(text)(outcome(asked))
    assert asked == limits


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ndgc@10", "unknown reward 'ndgc@10'.*ndcg@10"),
        ("ndcg", "'ndcg' needs a cutoff, for example 'ndcg@10'"),
        ("hr@0", "cutoff 0, expected at least 1"),
        ("likelihood@3", "unknown reward 'likelihood@3'"),
        ("ndcg@10 * hr@5", r"cannot read 'ndcg@10 \* hr@5'.*joined by \+ or -"),
        ("", "cannot read ''"),
        ("ndcg@10 +", "cannot read ''"),
        ("no_such_module:reward", "cannot import the reward 'no_such_module:reward'"),
        ("test_rewards:missing", "cannot import the reward 'test_rewards:missing'"),
        ("test_rewards:NOT_A_FUNCTION", "is 3, expected a function"),
    ],
)
def test_what_is_no_reward_is_said(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_reward(text)


@pytest.mark.parametrize(
    ("function", "said"), [("flat", r"'flat' returned \[6\].*\[2, 3\]"), ("broken", "'broken' returned values")]
)
def test_what_a_function_returns_is_checked(function: str, said: str) -> None:
    reward: Callable[[Outcome], torch.Tensor] = parse_reward(f"test_rewards:{function}")
    with pytest.raises(ConfigError, match=said):
        reward(outcome())
