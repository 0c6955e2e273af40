"""The assistant's training, beside the model's, and how much it gets to say.

It learns from the same training rows, stops early on validation users, and then alpha and gamma, two numbers, are moved
to where validation ranks best by votes alone, as a baseline's settings are chosen.

Source: `flr.sequential.assistant`.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from accelerate import Accelerator
from torch import distributed

from flr.baselines.popularity import Popularity
from flr.baselines.sequential import SequenceScorer
from flr.evaluation.metrics import ndcg, rank_statistics
from flr.evaluation.protocol import evaluate
from flr.progress import SILENT, Progress
from flr.recommender import Recommender
from flr.records import VALID, Histories, IntArray, UserSequences
from flr.seeding import derive_seed
from flr.sequential.assistant import LEAST, SequenceAssistant, build_assistant
from flr.sequential.fitting import fit_network
from flr.sequential.windows import TrainingWindows
from flr.training.validation import Validation, summed_over_processes, validation_users

#: What alpha and gamma may be; ties go to the smaller.
WEIGHTS: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8)
DISCOUNTS: Final = (0.0, 0.05, 0.1, 0.15, 0.2)
_CUTOFF: Final = 10
#: Most validation users that are asked: votes are quick to count, and 300 users are too few to settle a number on.
_USERS: Final = 2000
#: Most scores of one training batch: 512 MiB.
_SCORES: Final = 2**27


def give_assistant(
    recommender: Recommender, validation: Validation, accelerator: Accelerator, progress: Progress = SILENT
) -> tuple[float, float]:
    """Train an assistant and let the model listen to it as far as validation gains by it.

    Args:
        recommender: The trained model, changed in place; nothing happens where it has no memory, or where its settings
            ask for no assistant.
        validation: Knows the users.
        accelerator: Joins the processes, which all call this.
        progress: Told about epochs.

    Returns:
        alpha and gamma; 0 where the model has no assistant in the end.

    Raises:
        DataError: There is no training target.
        FlrError: The loss is no longer finite.
    """
    model = recommender.model
    users = _users(recommender, validation)
    assistant = None if model.memory is None else train_assistant(recommender, validation.sequences, users, progress)
    if assistant is None:
        return 0.0, 0.0
    model.assistant = assistant
    weight, discount = _best(recommender, validation.sequences, users, accelerator)
    assistant.weight.fill_(weight)
    assistant.discount.fill_(discount)
    if not (weight or discount):
        model.assistant = None
    return weight, discount


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
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(config.seed, "weights of the assistant"))
        assistant = build_assistant(config.assistant, n_items, config.text.window)
    if assistant is None:
        return None
    popularity = Popularity.fit(sequences, n_items)
    assistant.log_popularity.copy_(torch.from_numpy(np.log(popularity.probabilities)))
    assistant.to(recommender.model.device)

    def validate(scorer: SequenceScorer) -> float:
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
    settings = config.assistant.model_copy(update={"batch_targets": fitting})
    for number, (network, name) in enumerate(zip(assistant.networks, config.assistant.networks, strict=True)):
        scorer = SequenceScorer(name, network.requires_grad_(requires_grad=True), config.text.window, popularity)
        seed = derive_seed(config.seed, "network of the assistant", number) if number else config.seed
        validated = functools.partial(validate, scorer)
        training = fit_network(network, windows, settings, validated, name=name, seed=seed, progress=progress)
        progress.message(
            f"assistant: {name} has valid NDCG@{_CUTOFF} {training.valid[training.best_epoch - 1]:.4f} by itself, "
            f"epoch {training.best_epoch} of {len(training.valid)}, {training.seconds:.0f} s"
        )
    if distributed.is_initialized():
        for tensor in assistant.state_dict().values():
            distributed.broadcast(tensor, 0)
    assistant.requires_grad_(requires_grad=False).eval()
    return assistant


@torch.no_grad()
def _best(
    recommender: Recommender, sequences: UserSequences, users: IntArray, accelerator: Accelerator
) -> tuple[float, float]:
    """Return alpha and gamma by which votes rank the users' validation targets best, in one reading of histories."""
    owners, rows = sequences.targets(VALID)
    mine = np.isin(owners, users[accelerator.process_index :: accelerator.num_processes])
    histories = Histories.before(sequences, owners[mine], rows[mine])
    targets = sequences.item_index[rows[mine]].astype(np.int64)
    points = list(itertools.product(WEIGHTS, DISCOUNTS))
    sums = np.zeros(len(points))
    for places, state in recommender.snapshot.thoughts(histories):
        assert state.votes is not None and state.advice is not None
        log_votes = state.votes.probs.clamp(min=LEAST).log()
        if recommender.config.evaluation.seen_items == "exclude":
            taken = histories.take(places)
            log_votes[np.repeat(np.arange(len(places)), taken.lengths), taken.item_index] = -torch.inf
        every = torch.ones_like(state.advice.weight)
        for number, (weight, discount) in enumerate(points):
            advice = replace(state.advice, weight=weight * every, discount=discount * every)
            scores = advice.logits_on(log_votes).cpu().numpy()
            sums[number] += ndcg(*rank_statistics(scores, targets[places]), _CUTOFF).sum()
    return points[int(summed_over_processes(torch.from_numpy(sums), accelerator).argmax())]


def _users(recommender: Recommender, validation: Validation) -> IntArray:
    """Return whom the assistant is validated on: as many as the model is, or more where these are few."""
    most = max(_USERS, len(validation.users))
    return validation_users(validation.sequences, most, recommender.config.seed, "assistant's users")
