"""What a person may turn: how much each factor counts, and lists that give every factor its say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flr.errors import RequestError
from flr.records import FloatArray, IntArray

#: One multiplier per factor, for all histories; or one row of them per history.
FactorWeights = Sequence[float] | Sequence[Sequence[float]] | FloatArray


@dataclass(frozen=True)
class FactorLists:
    """What each factor alone would recommend to each of B histories.

    Attributes:
        item_index: Best first, [B, K, k]; -1 where fewer than k items were left.
        log_probs: Natural log of p(item | history) of a model that thinks in this factor alone, [B, K, k].
        gates: How much the model listens to each factor, mean over the refinement steps, [B, K].
    """

    item_index: IntArray
    log_probs: FloatArray
    gates: FloatArray


@dataclass(frozen=True)
class MixedList:
    """One list made of those of single factors, best first; [n] each.

    Attributes:
        item_index: Items, each once.
        log_probs: Natural log of p(item | history) under the factor that gave it.
        factors: That factor.
    """

    item_index: IntArray
    log_probs: FloatArray
    factors: IntArray


def check_factor_weights(weights: FactorWeights | None, n_factors: int, n_histories: int) -> FloatArray | None:
    """Return multipliers of the gates of every history, float32 [B, K], or None.

    Raises:
        RequestError: There is not one weight per factor (and row per history), or one is negative or not finite.
    """
    if weights is None:
        return None
    try:
        array = np.asarray(weights, dtype=np.float32)
    except (TypeError, ValueError):
        raise RequestError(
            f"factor weights {weights!r} are no numbers in equal rows; expected {n_factors} numbers, or a row of them "
            "for each history"
        ) from None
    if array.ndim not in (1, 2) or array.shape[-1] != n_factors:
        n_given = array.shape[-1] if array.ndim else 1
        raise RequestError(f"got {n_given} factor weights, this model has {n_factors} factors")
    if array.ndim == 2 and len(array) != n_histories:
        raise RequestError(
            f"got {len(array)} rows of factor weights for {n_histories} histories; give one row for all, or one each"
        )
    wrong = array[~np.isfinite(array) | (array < 0)]
    if len(wrong):
        raise RequestError(f"factor weight {float(wrong[0])!r}, expected a finite number of at least 0")
    return np.broadcast_to(array, (n_histories, n_factors))


def alone(n_factors: int, n_histories: int, device: torch.device) -> Tensor:
    """Return weights that leave one factor, for every factor of every history, [B * K, 1, K].

    The factor is multiplied by K: where the gate was even it becomes 1, as if the gate had chosen this factor only.
    """
    one_each = n_factors * torch.eye(n_factors, device=device)
    return one_each.repeat(n_histories, 1)[:, None]


def interleave(lists: FactorLists, row: int, k: int, weights: FloatArray | None = None) -> MixedList:
    """Return the k items that factors pick in turn, the one with the largest gate first; none picks what was picked.

    Args:
        lists: Of single factors, at least k items each where so many are left.
        row: Whose.
        k: Items wanted.
        weights: Multipliers of this history's gates, [K]; a factor of weight 0 picks nothing. None means 1.

    >>> one = FactorLists(np.array([[[4, 5], [4, 6]]]), np.zeros((1, 2, 2)), np.array([[0.3, 0.7]]))
    >>> mixed = interleave(one, 0, 3)
    >>> mixed.item_index.tolist(), mixed.factors.tolist()
    ([4, 5, 6], [1, 0, 1])
    """
    gates = lists.gates[row] if weights is None else lists.gates[row] * weights
    order = [int(factor) for factor in np.argsort(-gates, kind="stable") if weights is None or weights[factor] > 0]
    left = {factor: iter(range(lists.item_index.shape[2])) for factor in order}
    picked: dict[int, tuple[float, int]] = {}
    while order and len(picked) < k:
        for factor in list(order):
            for place in left[factor]:
                item = int(lists.item_index[row, factor, place])
                if item >= 0 and item not in picked:
                    picked[item] = (float(lists.log_probs[row, factor, place]), factor)
                    break
            else:
                order.remove(factor)
            if len(picked) == k:
                break
    return MixedList(
        np.array(list(picked), dtype=np.int64),
        np.array([log_prob for log_prob, _ in picked.values()]),
        np.array([factor for _, factor in picked.values()], dtype=np.int64),
    )
