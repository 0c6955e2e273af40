"""A second opinion on votes, whoever casts them: trained on the same rows, and given as much of the say as helps.

Its networks stop early on validation users, and then alpha, beta and gamma, three numbers, are moved to where
validation ranks best by votes alone. The best of hundreds of points is partly luck, so it is looked for in resamples of
the targets, and the mean of what is best in each is taken (Breiman 1996): that ranks better on users who had no say in
it.

Source: `flr.sequential.assistant`.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from flr.baselines.item_neighbours import Ease
from flr.baselines.popularity import Popularity
from flr.baselines.sequential import SequenceScorer
from flr.config import AssistantConfig
from flr.devices import own_random_numbers
from flr.evaluation.metrics import ndcg
from flr.evaluation.protocol import Scorer, SeenItems, evaluate
from flr.progress import SILENT, Progress
from flr.records import FloatArray, IntArray, UserSequences
from flr.seeding import derive_seed, generator
from flr.sequential.assistant import LEAST, Advice, SequenceAssistant, build_assistant, sequence_networks
from flr.sequential.fitting import fit_network
from flr.sequential.windows import TrainingWindows
from flr.training.validation import ValidationTargets, best_in_resamples, summed_over_processes

#: What alpha, beta and gamma may be, and what alpha and beta may be together; ties go to the smaller.
WEIGHTS: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6)
DISCOUNTS: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
MOST_SAY: Final = 0.8
#: Steps of what is chosen.
_STEP: Final = 0.05
_CUTOFF: Final = 10
#: By how many nats an item has to be above another to be there whatever is rounded.
_CLEARLY: Final = 1e-3
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

    def give(self, assistant: SequenceAssistant) -> None:
        """Let an assistant have it."""
        assistant.weights.copy_(torch.tensor(self.weights))
        assistant.discount.fill_(self.discount)

    def __str__(self) -> str:
        weights = " and ".join(f"{weight:g}" for weight in self.weights)
        return f"{weights} of the say in votes, {self.discount:g} of popularity taken off"


def train_assistant(
    config: AssistantConfig,
    sequences: UserSequences,
    n_items: int,
    *,
    window: int,
    users: IntArray,
    seen_items: SeenItems,
    seed: int,
    device: torch.device,
    progress: Progress = SILENT,
) -> SequenceAssistant | None:
    """Return a trained assistant that nobody listens to yet; None where the settings ask for none.

    Args:
        config: Its settings.
        sequences: All interactions; held-out rows are never learnt from.
        n_items: Items N.
        window: Most items of a history that it reads.
        users: Whose validation targets stop the training.
        seen_items: Whether items of the history are candidates there.
        seed: Of weights, batches and dropout.
        device: Where it is trained.
        progress: Told about epochs.

    Raises:
        DataError: There is no training target.
        FlrError: The loss is no longer finite.
    """
    with own_random_numbers(derive_seed(seed, "weights of the assistant")):
        assistant = build_assistant(config, n_items, window)
    if assistant is None:
        return None
    popularity = Popularity.fit(sequences, n_items)
    assistant.log_popularity.copy_(torch.from_numpy(np.log(popularity.probabilities)))
    assistant.to(device)

    def validate(scorer: Scorer) -> float:
        report = evaluate(
            scorer, sequences, n_items, split="valid", cutoffs=(_CUTOFF,), seen_items=seen_items, users=users
        )
        return report.metrics[f"ndcg@{_CUTOFF}"]

    windows = TrainingWindows(sequences, n_items, window)
    fitting = min(config.batch_targets, max(1, _SCORES // n_items))
    names = sequence_networks(config)
    attention = config.model_copy(update={"batch_targets": fitting})
    recurrent = attention.model_copy(update={"learning_rate": attention.recurrent_learning_rate})
    for number, (network, name) in enumerate(zip(assistant.networks, names, strict=True)):
        settings = recurrent if name == "gru4rec" else attention
        scorer = SequenceScorer(name, network.requires_grad_(requires_grad=True), window, popularity)
        of_network = derive_seed(seed, "network of the assistant", number) if number else seed
        validated = functools.partial(validate, scorer)
        training = fit_network(network, windows, settings, validated, name=name, seed=of_network, progress=progress)
        progress.message(
            f"assistant: {name} has valid NDCG@{_CUTOFF} {training.valid[training.best_epoch - 1]:.4f} by itself, "
            f"epoch {training.best_epoch} of {len(training.valid)}, {training.seconds:.0f} s"
        )
    if assistant.linear is not None:
        started = time.perf_counter()
        ease = Ease.fit(sequences, n_items, **config.ease.model_dump())
        assistant.linear.neighbours.copy_(torch.from_numpy(ease.neighbours))
        assistant.linear.weights.copy_(torch.from_numpy(ease.similarities))
        progress.message(
            f"assistant: {Ease.name} has valid NDCG@{_CUTOFF} {validate(ease):.4f} by itself, "
            f"{time.perf_counter() - started:.0f} s"
        )
    assistant.requires_grad_(requires_grad=False).eval()
    return assistant


@torch.no_grad()
def settle(
    asked: Iterable[tuple[IntArray, Tensor, Advice]],
    targets: ValidationTargets,
    n_opinions: int,
    *,
    seen_items: SeenItems,
    seed: int,
    accelerator: Accelerator | None = None,
) -> Say:
    """Return how much of the say ranks validation targets best, in one reading of histories.

    Args:
        asked: Places of targets among those of this process, [b], votes for all items after each history, [b, N], and
            the assistant's advice on it; all targets once.
        targets: What they are.
        n_opinions: Opinions that an advice has.
        seen_items: Whether items of the history are candidates.
        seed: Of the resamples.
        accelerator: Joins the processes, which all call this; None: there is one.
    """
    points = _points(n_opinions)
    exponents, corners = _exponents(points), _exponents(_corners(points))
    gains = np.zeros((targets.n, len(points)))
    for places, votes, advice in asked:
        log_votes = votes.clamp(min=LEAST).log()
        if seen_items == "exclude":
            taken = targets.histories.take(places)
            log_votes[np.repeat(np.arange(len(places)), taken.lengths), taken.item_index] = -torch.inf
        factors = torch.stack([log_votes, *advice.opinions, advice.log_popularity.expand_as(log_votes)], 1)
        ways = [of.to(factors.device) for of in (exponents, corners)]
        for place, of_user in zip(places, factors, strict=True):
            gains[targets.mine[place]] = _gains(of_user, int(targets.items[place]), *ways)
    gains = summed_over_processes(torch.from_numpy(gains), accelerator).cpu().numpy()
    return _mean_of_best(points, gains, generator(seed, "resamples for the assistant"))


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
