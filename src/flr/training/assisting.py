"""The assistant's training, beside the model's, and how much it gets to say.

It learns from the same training rows, its networks stop early on validation users, and then alpha, beta and gamma,
three numbers, are moved to where validation ranks best by votes alone. The best of hundreds of points is partly luck,
so it is looked for in resamples of the targets, and the mean of what is best in each is taken (Breiman 1996): that
ranks better on users who had no say in it.

Source: `flr.sequential.assistant`.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from flr.baselines.item_neighbours import Ease
from flr.baselines.popularity import Popularity
from flr.baselines.sequential import SequenceScorer
from flr.devices import own_random_numbers
from flr.evaluation.metrics import ndcg
from flr.evaluation.protocol import Scorer, evaluate
from flr.progress import SILENT, Progress
from flr.recommender import Recommender
from flr.records import FloatArray, IntArray, UserSequences
from flr.seeding import derive_seed, generator
from flr.sequential.assistant import LEAST, SequenceAssistant, build_assistant, sequence_networks
from flr.sequential.fitting import fit_network
from flr.sequential.windows import TrainingWindows
from flr.training.journey import on_first_process, share_weights
from flr.training.validation import (
    Validation,
    ValidationTargets,
    best_in_resamples,
    summed_over_processes,
    validation_users,
)

#: What alpha, beta and gamma may be, and what alpha and beta may be together; ties go to the smaller.
WEIGHTS: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6)
DISCOUNTS: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
MOST_SAY: Final = 0.8
#: Steps of what is chosen.
_STEP: Final = 0.05
_CUTOFF: Final = 10
#: By how many nats an item has to be above another to be there whatever is rounded.
_CLEARLY: Final = 1e-3
#: Fewest and most validation users that are asked: votes are quick to count, and 300 are too few to settle a number on.
_USERS: Final = 2000
_MOST_USERS: Final = 10_000
#: Most scores of one training batch: 512 MiB.
_SCORES: Final = 2**27


@dataclass(frozen=True)
class Say:
    """How much an assistant has to say.

    Attributes:
        weights: alpha of the networks and beta of the linear model, as far as there are any.
        discount: gamma of popularity.
    """

    weights: tuple[float, ...] = ()
    discount: float = 0.0

    def __bool__(self) -> bool:
        return any(self.weights) or bool(self.discount)

    def __str__(self) -> str:
        weights = " and ".join(f"{weight:g}" for weight in self.weights)
        return f"{weights} of the say in votes, {self.discount:g} of popularity taken off"


def give_assistant(
    recommender: Recommender,
    validation: Validation,
    accelerator: Accelerator,
    progress: Progress = SILENT,
    *,
    trained: SequenceAssistant | None = None,
) -> Say:
    """Train an assistant and let the model listen to it as far as validation gains by it.

    Args:
        recommender: The trained model, changed in place; nothing happens where it has no memory, or where its settings
            ask for no assistant.
        validation: Knows the users.
        accelerator: Joins the processes, which all call this.
        progress: Told about epochs.
        trained: An assistant that these settings, data and seed train, taken instead of training it again.

    Returns:
        What was settled; nothing where the model has no assistant in the end.

    Raises:
        DataError: There is no training target.
        FlrError: The loss is no longer finite.
    """
    model = recommender.model
    if model.memory is None:
        return Say()
    users = _users(recommender, validation)
    assistant = trained or train_assistant(recommender, validation.sequences, users, progress)
    if assistant is None:
        return Say()
    model.assistant = assistant
    mine = _best(recommender, validation.sequences, users, accelerator)
    # Processors that differ may round to another say, and all must take the same way from here.
    say = on_first_process(lambda: mine)
    assistant.weights.copy_(torch.tensor(say.weights))
    assistant.discount.fill_(say.discount)
    if not say:
        model.assistant = None
    return say


def train_assistant(
    recommender: Recommender, sequences: UserSequences, users: IntArray, progress: Progress = SILENT
) -> SequenceAssistant | None:
    """Return a trained assistant that nobody listens to yet; None where the settings ask for none.

    All processes train the same one; the first one's weights count.

    Args:
        recommender: Whose settings count.
        sequences: All interactions; held-out rows are never learnt from.
        users: Whose validation targets stop the training.
        progress: Told about epochs.
    """
    config, n_items = recommender.config, recommender.catalogue.n_items
    with own_random_numbers(derive_seed(config.seed, "weights of the assistant")):
        assistant = build_assistant(config.assistant, n_items, config.text.window)
    if assistant is None:
        return None
    popularity = Popularity.fit(sequences, n_items)
    assistant.log_popularity.copy_(torch.from_numpy(np.log(popularity.probabilities)))
    assistant.to(recommender.model.device)

    def validate(scorer: Scorer) -> float:
        report = evaluate(
            scorer,
            sequences,
            n_items,
            split="valid",
            cutoffs=(_CUTOFF,),
            seen_items=config.evaluation.seen_items,
            users=users,
        )
        return report.metrics[f"ndcg@{_CUTOFF}"]

    windows = TrainingWindows(sequences, n_items, config.text.window)
    fitting = min(config.assistant.batch_targets, max(1, _SCORES // n_items))
    names = sequence_networks(config.assistant)
    attention = config.assistant.model_copy(update={"batch_targets": fitting})
    recurrent = attention.model_copy(update={"learning_rate": attention.recurrent_learning_rate})
    for number, (network, name) in enumerate(zip(assistant.networks, names, strict=True)):
        settings = recurrent if name == "gru4rec" else attention
        scorer = SequenceScorer(name, network.requires_grad_(requires_grad=True), config.text.window, popularity)
        seed = derive_seed(config.seed, "network of the assistant", number) if number else config.seed
        validated = functools.partial(validate, scorer)
        training = fit_network(network, windows, settings, validated, name=name, seed=seed, progress=progress)
        progress.message(
            f"assistant: {name} has valid NDCG@{_CUTOFF} {training.valid[training.best_epoch - 1]:.4f} by itself, "
            f"epoch {training.best_epoch} of {len(training.valid)}, {training.seconds:.0f} s"
        )
    if assistant.linear is not None:
        started = time.perf_counter()
        ease = Ease.fit(sequences, n_items, **config.assistant.ease.model_dump())
        assistant.linear.neighbours.copy_(torch.from_numpy(ease.neighbours))
        assistant.linear.weights.copy_(torch.from_numpy(ease.similarities))
        progress.message(
            f"assistant: {Ease.name} has valid NDCG@{_CUTOFF} {validate(ease):.4f} by itself, "
            f"{time.perf_counter() - started:.0f} s"
        )
    share_weights(assistant)
    assistant.requires_grad_(requires_grad=False).eval()
    return assistant


@torch.no_grad()
def _best(recommender: Recommender, sequences: UserSequences, users: IntArray, accelerator: Accelerator) -> Say:
    """Return how votes rank the users' validation targets best, in one reading of histories."""
    targets = ValidationTargets.of(sequences, users, accelerator)
    assert recommender.model.assistant is not None
    points = _points(len(recommender.model.assistant.weights))
    exponents, corners = (_exponents(says).to(recommender.model.device) for says in (points, _corners(points)))
    gains = np.zeros((targets.n, len(points)))
    for places, state in recommender.snapshot.thoughts(targets.histories):
        assert state.votes is not None and state.advice is not None
        log_votes = state.votes.probs.clamp(min=LEAST).log()
        if recommender.config.evaluation.seen_items == "exclude":
            taken = targets.histories.take(places)
            log_votes[np.repeat(np.arange(len(places)), taken.lengths), taken.item_index] = -torch.inf
        popularity = state.advice.log_popularity.expand_as(log_votes)
        factors = torch.stack([log_votes, *state.advice.opinions, popularity], 1)
        for place, of_user in zip(places, factors, strict=True):
            gains[targets.mine[place]] = _gains(of_user, int(targets.items[place]), exponents, corners)
    gains = summed_over_processes(torch.from_numpy(gains), accelerator).cpu().numpy()
    return _mean_of_best(points, gains, generator(recommender.config.seed, "resamples for the assistant"))


def _gains(of_user: Tensor, target: int, exponents: Tensor, corners: Tensor) -> FloatArray:
    """Return NDCG of a target where items are ranked by a product of powers, for many exponents.

    What an item has over the target is linear in the exponents, so an item that has more at all corners of the region
    that they lie in has more everywhere, and one that has less at all corners never. Most items are such, and most
    targets have ten of the former.

    Args:
        of_user: Logarithms of what is multiplied, the first -inf at items that are no candidates, [F, N].
        target: Item index.
        exponents: [P, F], the first above 0.
        corners: Of a region that all exponents lie in, [C, F], the first above 0.

    Returns:
        [P].
    """
    if of_user[0, target].isneginf():
        return np.zeros(len(exponents))
    over_target = of_user - of_user[:, target, None]
    least, most = (corners @ over_target).aminmax(dim=0)
    n_always = int((least > _CLEARLY).sum())
    if n_always >= _CUTOFF:
        return np.zeros(len(exponents))
    differences = exponents @ over_target[:, (least <= _CLEARLY) & (most >= -_CLEARLY)]
    n_better, n_equal = n_always + (differences > 0).sum(1), (differences == 0).sum(1)
    return ndcg(n_better.cpu().numpy(), n_equal.cpu().numpy(), _CUTOFF)


def _mean_of_best(points: Sequence[Say], gains: FloatArray, rng: np.random.Generator) -> Say:
    """Return the mean of the points that are best in resamples of the targets, in whole steps.

    Args:
        points: What was tried.
        gains: What each target gains by each, [n, len(points)].
        rng: Draws the resamples.
    """
    means = np.array([[*say.weights, say.discount] for say in points])[best_in_resamples(gains, rng)].mean(0)
    *weights, discount = (round(round(mean / _STEP) * _STEP, 2) for mean in means)
    return Say(tuple(weights), discount)


def _exponents(says: Sequence[Say]) -> Tensor:
    """Return the exponents of votes, opinions and popularity, [n, opinions + 2]."""
    return torch.tensor([[1 - sum(say.weights), *say.weights, -say.discount] for say in says])


def _corners(points: Sequence[Say]) -> list[Say]:
    """Return the corners of a prism that all points lie in: nobody or one opinion has all of the say."""
    n = len(points[0].weights)
    weights = [(0.0,) * n, *(tuple(MOST_SAY * (one == other) for other in range(n)) for one in range(n))]
    return [Say(of, discount) for of in weights for discount in (min(DISCOUNTS), max(DISCOUNTS))]


def _points(n_opinions: int) -> list[Say]:
    """Return what is tried, the smaller first."""
    weights = (of for of in itertools.product(WEIGHTS, repeat=n_opinions) if sum(of) <= MOST_SAY)
    return [Say(*point) for point in itertools.product(weights, DISCOUNTS)]


def _users(recommender: Recommender, validation: Validation) -> IntArray:
    """Return whom the assistant is validated on: as many as the model is, but neither few nor very many."""
    most = min(max(_USERS, len(validation.users)), _MOST_USERS)
    return validation_users(validation.sequences, most, recommender.config.seed, "assistant's users")
