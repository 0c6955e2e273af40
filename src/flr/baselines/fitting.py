"""One door to all baselines: a name and user sequences in, the scorer that did best on validation out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from flr.baselines.assisted import AssistedTransitions, assisted_fit
from flr.baselines.item_neighbours import Ease, ItemNeighbours, NeighbourScorer
from flr.baselines.neighbours import LastItemMarkov
from flr.baselines.popularity import Popularity
from flr.baselines.registry import Rival, registered
from flr.baselines.sequential import SequenceScorer, build_network, train_network
from flr.baselines.settings import BaselineSettings, NetworkSettings
from flr.baselines.transitions import TransitionMixture
from flr.baselines.trials import trial_settings
from flr.devices import default_device, own_random_numbers
from flr.evaluation.protocol import Scorer, evaluate
from flr.progress import SILENT, Progress
from flr.records import TEST, FloatArray, UserSequences
from flr.seeding import derive_seed
from flr.sequential.assistant import SequenceAssistant

#: Cutoff of the NDCG that decides.
_CUTOFF: Final = 10

BuiltIn = Popularity | LastItemMarkov | NeighbourScorer | TransitionMixture | AssistedTransitions | SequenceScorer
Baseline = BuiltIn | Rival
#: Baselines that count and have settings to choose.
_COUNTED: Final[dict[str, type[ItemNeighbours | Ease | TransitionMixture]]] = {
    "item-knn": ItemNeighbours,
    "ease": Ease,
    "transitions": TransitionMixture,
}


@dataclass(frozen=True)
class Trial:
    """One point of the grid.

    Attributes:
        settings: What was tried.
        valid: NDCG@10 on validation; NaN where nothing was to be chosen.
        best_epoch, n_epochs: The epoch whose weights were kept, and how many there were; 0 without training.
        seconds: Wall-clock time.
    """

    settings: dict[str, Any]
    valid: float
    best_epoch: int = 0
    n_epochs: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"valid NDCG@{_CUTOFF} {self.valid:.4f}, {self.seconds:.0f} s"


@dataclass(frozen=True)
class FittedBaseline:
    """A baseline and how it came about.

    Attributes:
        name: Which one.
        scorer: The best of all trials; ties go to the earlier one.
        trials: All trials, in order.
        best: Number of the best trial.
    """

    name: str
    scorer: Baseline
    trials: tuple[Trial, ...]
    best: int


def fit_baseline(
    name: str,
    sequences: UserSequences,
    n_items: int,
    *,
    settings: BaselineSettings | None = None,
    seed: int = 0,
    titles: FloatArray | None = None,
    assistant: SequenceAssistant | None = None,
    progress: Progress = SILENT,
) -> FittedBaseline:
    """Fit a baseline to training rows, and choose its settings by NDCG@10 on validation rows.

    Args:
        name: Which one; one of your own after `register_baseline`.
        sequences: All users; test rows are never read.
        n_items: Size of the catalogue N.
        settings: Settings and number of trials; None takes the defaults.
        seed: Seed of weights, batches and dropout; the points that are tried do not depend on it.
        titles: Language embeddings of the titles, [N, D_title]; alpharec needs them.
        assistant: For assisted-transitions, one that these settings, data and seed train; None trains it.
        progress: Told about trials and epochs.

    Raises:
        ConfigError: There is no such baseline; or alpharec got no title embeddings, or not one for each item.
        DataError: There is nothing to train on or to validate with.
    """
    settings, own = settings or BaselineSettings(), registered(name)

    def validate(scorer: Scorer) -> float:
        report = evaluate(scorer, sequences, n_items, split="valid", cutoffs=(_CUTOFF,), seen_items=settings.seen_items)
        return report.metrics[f"ndcg@{_CUTOFF}"]

    if name == "popularity":
        return FittedBaseline(name, Popularity.fit(sequences, n_items), (Trial({}, math.nan),), 0)
    if name == "last-item-markov":
        return FittedBaseline(name, LastItemMarkov.fit(sequences, n_items), (Trial({}, math.nan),), 0)
    without_test = sequences if own is None else sequences.where(sequences.split != TEST)
    if name == AssistedTransitions.name:
        counting: Callable[..., Baseline] | None = assisted_fit(
            sequences, n_items, settings, seed=seed, trained=assistant, progress=progress
        )
    else:
        counting = partial(_COUNTED[name].fit, sequences, n_items) if name in _COUNTED else None
    tried = list[tuple[Baseline, Trial]]()
    for number, chosen in enumerate(trial_settings(name, settings)):
        trial: tuple[Baseline, Trial]
        if own is not None:
            with own_random_numbers(derive_seed(seed, f"baseline {name}")):
                fit = partial(own.kind.fit, without_test, n_items, seed=derive_seed(seed, name), **chosen)
                trial = _timed(fit, chosen, validate)
        elif counting is not None:
            trial = _timed(partial(counting, **chosen), chosen, validate)
        else:
            untrained = _untrained(name, sequences, n_items, NetworkSettings(**chosen), seed=seed, titles=titles)
            trial = _trained(untrained, sequences, chosen, validate, seed=seed, progress=progress)
        progress.message(f"{name}, trial {number + 1}: {trial[1]}")
        tried.append(trial)
    best = int(np.argmax([trial.valid for _, trial in tried]))
    return FittedBaseline(name, tried[best][0], tuple(trial for _, trial in tried), best)


def _timed(
    fit: Callable[[], Baseline], chosen: dict[str, Any], validate: Callable[[Scorer], float]
) -> tuple[Baseline, Trial]:
    started = time.perf_counter()
    scorer = fit()
    valid = validate(scorer)
    return scorer, Trial(chosen, valid, seconds=time.perf_counter() - started)


def _untrained(
    name: str,
    sequences: UserSequences,
    n_items: int,
    settings: NetworkSettings,
    *,
    seed: int,
    titles: FloatArray | None,
) -> SequenceScorer:
    with own_random_numbers(derive_seed(seed, f"weights of {name}")):
        network = build_network(name, n_items, settings, titles)
    return SequenceScorer(name, network.to(default_device()), settings.window, Popularity.fit(sequences, n_items))


def _trained(
    scorer: SequenceScorer,
    sequences: UserSequences,
    chosen: dict[str, Any],
    validate: Callable[[Scorer], float],
    *,
    seed: int,
    progress: Progress,
) -> tuple[SequenceScorer, Trial]:
    training = train_network(scorer, sequences, NetworkSettings(**chosen), validate, seed=seed, progress=progress)
    valid = training.valid[training.best_epoch - 1]
    return scorer, Trial(chosen, valid, training.best_epoch, len(training.valid), training.seconds)
