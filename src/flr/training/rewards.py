"""What a thought earned: how well the next item did under it.

A reward is written as a weighted sum of terms, ``"ndcg@10 + 0.5 * likelihood"``:

=====================  =========================================================================
``likelihood``         exp(mean log p over the choices that writing the title takes), in [0, 1]
``log_likelihood``     log p(title), at most 0
``ndcg@k``             NDCG at cutoff k of the item in the exact ranking of the catalogue
``hr@k``               HR at cutoff k
``reciprocal_rank``    1 / rank; ``reciprocal_rank@k`` is 0 beyond rank k
``module:function``    any function of an `Outcome` that returns rewards [S, G]
=====================  =========================================================================

Ranks are computed only if a term asks for them, and only as deep as it asks for.

Source: METHOD Eq. 10.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from flr.errors import ConfigError, nearest
from flr.evaluation.metrics import hit_rate, ndcg, reciprocal_rank
from flr.records import FloatArray, IntArray

#: (n_better, n_equal) of every thought, [S, G] int64, exact where n_better is below the limit (None: everywhere).
Ranks = Callable[[int | None], tuple[IntArray, IntArray]]

_TERM = re.compile(r"\s*(?:(?P<weight>\d*\.?\d+(?:e-?\d+)?)\s*\*\s*)?(?P<name>[\w.]+(?::[\w.]+)?(?:@\d+)?)\s*")
#: A sign between terms; not that of an exponent, as in 1e-3.
_SIGN = re.compile(r"(?<!\de)([+-])")
_RANKED: Final = {"ndcg": ndcg, "hr": hit_rate, "reciprocal_rank": reciprocal_rank}
_LIKELIHOODS: Final = ("likelihood", "log_likelihood")


@dataclass(frozen=True)
class Outcome:
    """How the next item did under each thought.

    Attributes:
        log_probs: log p(title | history, thought), float32, [S, G].
        n_choices: Choices that writing each title takes, [S].
        items: Item index of each target, [S].
        ranks: Computes rank statistics when called; see `Ranks`.
    """

    log_probs: Tensor
    n_choices: Tensor
    items: Tensor
    ranks: Ranks


RewardFunction = Callable[[Outcome], Tensor]


class DivergedError(Exception):
    """Weights have become so large, or no numbers, that titles have no probability; training goes back."""


@dataclass(frozen=True)
class Reward:
    """A weighted sum of reward terms.

    Attributes:
        terms: (weight, function) each.
    """

    terms: tuple[tuple[float, RewardFunction], ...]

    def __call__(self, outcome: Outcome) -> Tensor:
        """Return the reward of every thought, float32, [S, G].

        Raises:
            ConfigError: A function of the user's returned another shape, or something that is not finite.
        """
        total = torch.zeros_like(outcome.log_probs)
        for weight, function in self.terms:
            total = total + weight * _checked(function, outcome)
        return total


def parse_reward(text: str) -> Reward:
    """Return the reward that a weighted sum of terms describes, some of which may be taken off.

    Raises:
        ConfigError: The sum cannot be read, a term is unknown, a cutoff is missing or below 1, or a
            ``module:function`` cannot be imported or called.

    >>> [weight for weight, _ in parse_reward("ndcg@10 - 0.5 * likelihood").terms]
    [1.0, -0.5]
    """
    first, *others = _SIGN.split(text)
    signed = zip(others[::2], others[1::2], strict=True)
    parts = [*([("+", first)] if first.strip() or not others else []), *signed]
    return Reward(tuple(_term(part, sign, text) for sign, part in parts))


def _term(part: str, sign: str, text: str) -> tuple[float, RewardFunction]:
    found = _TERM.fullmatch(part)
    if found is None:
        raise ConfigError(
            f"cannot read {part.strip()!r} in the reward {text!r}; expected terms like 'ndcg@10' or "
            "'0.5 * likelihood', joined by + or -"
        )
    return float(sign + (found["weight"] or "1")), _function(found["name"])


def _function(name: str) -> RewardFunction:
    if ":" in name:
        return _imported(name)
    kind, _, cutoff = name.partition("@")
    if kind in _LIKELIHOODS and not cutoff:
        return likelihood if kind == "likelihood" else log_likelihood
    if kind not in _RANKED:
        known = ("likelihood", "log_likelihood", "ndcg@10", "hr@10", "reciprocal_rank", "module:function")
        raise ConfigError(f"unknown reward {name!r}: {nearest(name, known)}")
    if not cutoff and kind != "reciprocal_rank":
        raise ConfigError(f"the reward {name!r} needs a cutoff, for example {name + '@10'!r}")
    if cutoff and int(cutoff) < 1:
        raise ConfigError(f"the reward {name!r} has cutoff {cutoff}, expected at least 1")
    return RankedReward(_RANKED[kind], int(cutoff) if cutoff else None)


def likelihood(outcome: Outcome) -> Tensor:
    """Return exp(mean log p over the choices of the title), [S, G]; 1 for a title that takes no choice."""
    return (outcome.log_probs / outcome.n_choices.clamp(min=1)[:, None]).exp()


def log_likelihood(outcome: Outcome) -> Tensor:
    """Return log p(title), [S, G]."""
    return outcome.log_probs


@dataclass(frozen=True)
class RankedReward:
    """A metric of the item's place in the exact ranking.

    Attributes:
        metric: Function of (n_better, n_equal, k).
        cutoff: Cutoff k; None counts every rank.
    """

    metric: Callable[[IntArray, IntArray, int], FloatArray]
    cutoff: int | None

    def __call__(self, outcome: Outcome) -> Tensor:
        n_better, n_equal = outcome.ranks(self.cutoff)
        k = self.cutoff or int((n_better + n_equal).max(initial=1))
        values = self.metric(n_better.ravel(), n_equal.ravel(), k).reshape(n_better.shape)
        return torch.from_numpy(values.astype(np.float32)).to(outcome.log_probs.device)


def _imported(name: str) -> RewardFunction:
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"cannot import the reward {name!r}: {error}; the module must be installed or on PYTHONPATH"
        ) from error
    if not callable(function):
        raise ConfigError(f"the reward {name!r} is {function!r}, expected a function of an Outcome")
    return function  # type: ignore[no-any-return]


def _checked(function: RewardFunction, outcome: Outcome) -> Tensor:
    if bool(outcome.log_probs.isnan().any()):
        raise DivergedError
    rewards = torch.as_tensor(function(outcome), dtype=torch.float32, device=outcome.log_probs.device)
    name = getattr(function, "__name__", type(function).__name__)
    if rewards.shape != outcome.log_probs.shape:
        raise ConfigError(
            f"the reward {name!r} returned {list(rewards.shape)}, expected [targets, thoughts] = "
            f"{list(outcome.log_probs.shape)}"
        )
    if not bool(torch.isfinite(rewards).all()):
        raise ConfigError(f"the reward {name!r} returned values that are not finite; rewards must be numbers")
    return rewards
