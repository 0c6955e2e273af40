"""Optimise thoughts for a reward of your own; this one is content once an item is likely enough.

PYTHONPATH=examples flr train --stage grpo --from runs/ml-100k --output runs/content
    --set "grpo.reward=ndcg@10 + 0.5 * own_reward:likely_enough"
"""

from __future__ import annotations

from torch import Tensor

from flr.training.rewards import Outcome

#: Nothing is gained by making an item likelier than this.
ENOUGH = 0.05


def likely_enough(outcome: Outcome) -> Tensor:
    """Return p(title | history, thought) as a share of what is enough, at most 1, for each thought, [S, G]."""
    return (outcome.log_probs.exp() / ENOUGH).clamp(max=1.0)
