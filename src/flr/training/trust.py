"""How far votes are trusted, settled on validation once the weights are.

Training rows say too much for written titles: a model learns them by heart, and its trust with them, while votes there
come from other people only. So the one number b of ``lambda = sigmoid(w . z + b)`` is moved to where validation ranks
best, as a baseline's settings are chosen. What is best is partly luck, and a walk uphill stops at the first dip, so
all moves are tried in resamples of the targets, and the mean of what is best in each is taken, as for an assistant's
say.

Source: ours, docs/equations.md ("mixture"); see `flr.reasoner.memory`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np
import torch
from accelerate import Accelerator
from torch.nn.functional import logsigmoid

from flr.blocks import in_any_company
from flr.evaluation.metrics import ndcg, rank_statistics
from flr.recommender import Recommender
from flr.records import FloatArray
from flr.seeding import generator
from flr.thoughts import ThoughtState
from flr.training.journey import on_first_process
from flr.training.validation import Validation, ValidationTargets, best_in_resamples, summed_over_processes

#: Logits that the trust may be moved by, and those that are tried only where the least of the others is best: titles
#: that nearly all depends on take long to search.
_MOVES: Final = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
_LOWER: Final = (-6.0, -5.0, -4.0, -3.0)
_CUTOFF: Final = 10


@torch.no_grad()
def settle_trust(recommender: Recommender, validation: Validation, accelerator: Accelerator) -> float:
    """Move the trust to where validation ranks best, and return by how many logits.

    Args:
        recommender: The trained model, changed in place; nothing happens where it has no memory.
        validation: Knows the users.
        accelerator: Joins the processes, which all call this.
    """
    memory = recommender.model.memory
    if memory is None:
        return 0.0
    targets = ValidationTargets.of(validation.sequences, validation.users, accelerator)

    def settled(moves: Sequence[float], gains: FloatArray) -> float:
        # Processors that differ may round to another move, and all must take the same way from here.
        mine = _settled(moves, gains, generator(recommender.config.seed, "resamples for the trust"))
        return on_first_process(lambda: mine)

    def gains_of(moves: Sequence[float]) -> FloatArray:
        gains = torch.from_numpy(_gains(recommender, targets, moves))
        of_all: FloatArray = summed_over_processes(gains, accelerator).cpu().numpy()
        return of_all

    gains = gains_of(_MOVES)
    moved = settled(_MOVES, gains)
    if moved == _MOVES[0]:
        moved = settled((*_LOWER, *_MOVES), np.concatenate([gains_of(_LOWER), gains], 1))
    memory.trust.bias.add_(moved)
    return moved


def _gains(recommender: Recommender, targets: ValidationTargets, moves: Sequence[float]) -> FloatArray:
    """Return NDCG of each target under each move, 0 for those of other processes, [n, len(moves)]."""
    gains = np.zeros((targets.n, len(moves)))
    exclude_seen = recommender.config.evaluation.seen_items == "exclude"
    changes = [partial(_moved, by=move) for move in moves]
    found = recommender.snapshot.best_under(targets.histories, _CUTOFF, changes, exclude_seen=exclude_seen)
    with in_any_company():
        for places, scores in found:
            for move, of_move in enumerate(scores):
                gains[targets.mine[places], move] = ndcg(*rank_statistics(of_move, targets.items[places]), _CUTOFF)
    return gains


def _moved(state: ThoughtState, *, by: float) -> ThoughtState:
    """Return what was thought, with the trust moved."""
    votes = state.votes
    assert votes is not None
    logit = votes.log_trust - votes.log_distrust + by
    return replace(state, votes=replace(votes, log_trust=logsigmoid(logit), log_distrust=logsigmoid(-logit)))


def _settled(moves: Sequence[float], gains: FloatArray, rng: np.random.Generator) -> float:
    """Return the mean of the moves that are best in resamples, as one of them; never one that loses to staying.

    Args:
        moves: What was tried, 0 among it, by whole steps.
        gains: What each target gains by each, [n, len(moves)].
        rng: Draws the resamples.
    """
    means, staying = gains.mean(0), moves.index(0.0)
    chosen = round(float(best_in_resamples(gains, rng).mean()))
    return moves[chosen if means[chosen] >= means[staying] else int(means.argmax())]
