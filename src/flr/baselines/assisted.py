"""Transitions with a second opinion: what is left of FLR when no language model reads, thinks or writes.

The votes are those of `flr.baselines.transitions`, the assistant is the model's own, trained and given its say in the
same way. Whoever says that factors, thoughts or titles earn something has to rank above it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor

from flr.baselines.popularity import Popularity
from flr.baselines.settings import BaselineSettings
from flr.baselines.transitions import TransitionMixture
from flr.config import AssistantConfig
from flr.devices import default_device
from flr.errors import ConfigError
from flr.progress import SILENT, Progress
from flr.records import FloatArray, Histories, IntArray, UserSequences
from flr.sequential.assistant import LEAST, Advice, SequenceAssistant
from flr.training.second_opinion import settle, train_assistant
from flr.training.validation import ValidationTargets, validation_users

#: Most validation users who stop the networks and settle how much these say.
_MOST_USERS: Final = 10_000
#: Histories whose votes are held at once while that is settled.
_AT_ONCE: Final = 64


@dataclass(frozen=True)
class AssistedTransitions:
    """Multiplies an assistant's opinions into votes of transitions; see `flr.sequential.assistant`.

    Attributes:
        votes: The votes.
        assistant: The second opinion, with what it has to say.
        settings: What it was built by.
        window: Most recent items of a history that it reads.
    """

    name: ClassVar[str] = "assisted-transitions"

    votes: TransitionMixture
    assistant: SequenceAssistant
    settings: AssistantConfig
    window: int

    @property
    def popularity(self) -> Popularity:
        """What an empty history gets."""
        return self.votes.popularity

    def score(self, histories: Histories) -> FloatArray:
        """Return ``log p(y | history)``, [B, N] floats; exponentials of a row sum to 1."""
        if not len(histories):
            return self.votes.score(histories)
        with torch.inference_mode():
            votes, advice = self._asked(histories)
            log_votes = votes.clamp(min=LEAST).log()
            scores: FloatArray = advice.logits_on(log_votes).log_softmax(-1).cpu().numpy()
        return scores

    def asked(self, targets: ValidationTargets) -> Iterator[tuple[IntArray, Tensor, Advice]]:
        """Yield places of targets, votes before them and advice, for `flr.training.second_opinion.settle`."""
        for places in np.array_split(np.arange(len(targets.histories)), -(-len(targets.histories) // _AT_ONCE)):
            yield places, *self._asked(targets.histories.take(places))

    def _asked(self, histories: Histories) -> tuple[Tensor, Advice]:
        """Return votes, float32 [B, N], and advice on some histories."""
        device = self.assistant.log_popularity.device
        votes = torch.from_numpy(np.exp(self.votes.score(histories)).astype(np.float32)).to(device)
        read = torch.from_numpy(histories.window(self.window).padded(-1)).to(device)
        return votes, self.assistant(read)


def assisted_fit(
    sequences: UserSequences,
    n_items: int,
    settings: BaselineSettings,
    *,
    seed: int,
    trained: SequenceAssistant | None = None,
    progress: Progress = SILENT,
) -> Callable[..., AssistedTransitions]:
    """Return what fits it to settings of `TransitionMixture`: all trials share one assistant.

    Args:
        sequences: All users; validation rows stop the networks and settle how much they say.
        n_items: Size of the catalogue N.
        settings: Of the assistant.
        seed: Of its weights, batches and dropout.
        trained: An assistant that these settings, data and seed train, taken instead of training it again.
        progress: Told about epochs.

    Raises:
        ConfigError: The settings ask for no assistant.
        DataError: There is nothing to train on or to validate with.
    """
    users = validation_users(sequences, _MOST_USERS, seed, "assistant's users")
    targets = ValidationTargets.of(sequences, users)

    @cache
    def assistant() -> SequenceAssistant:
        found = trained or train_assistant(
            settings.assistant,
            sequences,
            n_items,
            window=settings.assistant_window,
            users=users,
            seen_items=settings.seen_items,
            seed=seed,
            device=default_device(),
            progress=progress,
        )
        if found is None:
            raise ConfigError(f"{AssistedTransitions.name} got assistant.networks = (), expected one network or more")
        return found

    def fit(**chosen: Any) -> AssistedTransitions:
        votes = TransitionMixture.fit(sequences, n_items, **chosen)
        fitted = AssistedTransitions(votes, deepcopy(assistant()), settings.assistant, settings.assistant_window)
        say = settle(
            fitted.asked(targets), targets, len(fitted.assistant.weights), seen_items=settings.seen_items, seed=seed
        )
        say.give(fitted.assistant)
        return fitted

    return fit
