"""The second opinion that a trained model listens to: trained beside it, and given as much of the say as helps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from accelerate import Accelerator
from torch import Tensor

from flr.progress import SILENT, Progress
from flr.recommender import Recommender
from flr.records import Histories, IntArray
from flr.sequential.assistant import Advice, SequenceAssistant
from flr.training.journey import on_first_process, share_weights
from flr.training.second_opinion import Say, settle, train_assistant
from flr.training.validation import Validation, ValidationTargets, validation_users

#: Fewest and most validation users that are asked: votes are quick to count, and 300 are too few to settle a number on.
_USERS: Final = 2000
_MOST_USERS: Final = 10_000


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
    assistant = trained or _trained(recommender, validation, users, progress)
    if assistant is None:
        return Say()
    model.assistant = assistant
    targets = ValidationTargets.of(validation.sequences, users, accelerator)
    mine = settle(
        _asked(recommender, targets.histories),
        targets,
        len(assistant.weights),
        seen_items=recommender.config.evaluation.seen_items,
        seed=recommender.config.seed,
        accelerator=accelerator,
    )
    # Processors that differ may round to another say, and all must take the same way from here.
    say = on_first_process(lambda: mine)
    say.give(assistant)
    if not say:
        model.assistant = None
    return say


def _trained(
    recommender: Recommender, validation: Validation, users: IntArray, progress: Progress
) -> SequenceAssistant | None:
    """Return what `train_assistant` does; all processes train the same one, and the first one's weights count."""
    config = recommender.config
    assistant = train_assistant(
        config.assistant,
        validation.sequences,
        recommender.catalogue.n_items,
        window=config.text.window,
        users=users,
        seen_items=config.evaluation.seen_items,
        seed=config.seed,
        device=recommender.model.device,
        progress=progress,
    )
    if assistant is not None:
        share_weights(assistant)
    return assistant


def _asked(recommender: Recommender, histories: Histories) -> Iterator[tuple[IntArray, Tensor, Advice]]:
    """Yield places, votes and advice, a few histories at a time."""
    for places, state in recommender.snapshot.thoughts(histories):
        assert state.votes is not None and state.advice is not None
        yield places, state.votes.probs, state.advice


def _users(recommender: Recommender, validation: Validation) -> IntArray:
    """Return whom the assistant is validated on: as many as the model is, but neither few nor very many."""
    most = min(max(_USERS, len(validation.users)), _MOST_USERS)
    return validation_users(validation.sequences, most, recommender.config.seed, "assistant's users")
