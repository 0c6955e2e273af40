"""What a run takes over from a finished one instead of training it again: its weights, or its assistant.

Both depend on settings, data and seed alone, so a run that takes them over ends as one that trains them, to the bit
(to rounding, where adapters were merged into a pretrained model when it was saved).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from flr.config import Config, parse_saved
from flr.errors import ArtifactError, ConfigError
from flr.persistence import file_sha256, read_json
from flr.recommender import Recommender
from flr.records import PreparedData
from flr.sequential.assistant import SequenceAssistant
from flr.training.finished import finished_on
from flr.training.folder import RunFolder, RunSummary, named_settings

#: What the learnt trust is called among a run's facts: settling moves it on validation.
LEARNT_TRUST: Final = "learnt_trust"
#: Settings that weights depend on.
_OF_WEIGHTS: Final = ("seed", "text", "backbone", "reasoner", "objective", "training")
#: Settings that an assistant's networks depend on.
_OF_ASSISTANT: Final = ("seed", "assistant", "text.window", "evaluation.seen_items", "training.eval_users")


def about_source(run: Path) -> dict[str, str]:
    """Return what tells a run whose model is the start of another: its folder, and the hash of its weights."""
    return {"from": str(run.resolve()), "from_hash": file_sha256(RunFolder(run).model / "model.safetensors")}


def take_weights(
    run: Path, config: Config, prepared: PreparedData, device: torch.device
) -> tuple[Recommender, RunSummary, dict[str, Any]]:
    """Return a run's model as training left it, before anybody advised it or settled its trust.

    Args:
        run: A finished run of stage one.
        config: Settings of the run to be; only the assistant and the evaluation may differ.
        prepared: The data of the run to be, which must be the run's.
        device: Where the model goes.

    Returns:
        The recommender, what its training came to, and facts for the new run's folder.

    Raises:
        ArtifactError: It is no finished run of stage one on this data, or was made before runs kept what is needed.
        ConfigError: Other settings differ.
    """
    facts = _check_run(run, prepared)
    check_settings(config, run, _OF_WEIGHTS, "weights are taken over, so leave it out")
    recommender = Recommender.load(run, device=device)
    model = recommender.model
    if model.memory is not None:
        if LEARNT_TRUST not in facts:
            raise ArtifactError(
                f"{str(run)!r} does not tell what its trust was before validation settled it; train it again"
            )
        with torch.no_grad():
            model.memory.trust.bias.fill_(facts[LEARNT_TRUST])
    model.assistant = None
    names = ("best_step", "n_steps", "n_parameters", "n_trained_parameters")
    summary = RunSummary(path=run, valid={}, train_seconds=0.0, **{name: facts[name] for name in names})
    return Recommender(model, recommender.tokenizer, recommender.catalogue, config), summary, about_source(run)


def take_assistant(run: Path, config: Config, prepared: PreparedData, device: torch.device) -> SequenceAssistant | None:
    """Return a run's assistant, to which nobody listens yet; None where that run settled on none.

    Arguments and errors as `take_weights`; what the assistant depends on may not differ.
    """
    _check_run(run, prepared)
    check_settings(config, run, _OF_ASSISTANT, "the assistant is taken over, so leave it out")
    assistant = Recommender.load(run, device=device).model.assistant
    if assistant is not None:
        assistant.weights.zero_()
        assistant.discount.zero_()
    return assistant


def check_settings(config: Config, run: Path, names: Sequence[str], why: str) -> None:
    """Check that settings are those that a run was trained with.

    Args:
        config: What is given.
        run: The run folder.
        names: Sections, or settings as ``section.key``.
        why: What to do where they differ.

    Raises:
        ConfigError: Any of them is another.
    """
    trained = _settings(parse_saved(read_json(RunFolder(run).facts, "run")["config"]), names)
    for key, value in _settings(config, names).items():
        if value != trained[key]:
            raise ConfigError(f"{key} = {value!r}, but {str(run)!r} was trained with {trained[key]!r}; {why}")


def assistant_settings(config: Config) -> dict[str, Any]:
    """Return what an assistant depends on beside the data: runs alike in it train the same one."""
    return _settings(config, _OF_ASSISTANT)


def is_of_weights(setting: str) -> bool:
    """Return whether trained weights depend on a setting, given as ``section.key``."""
    return setting.partition(".")[0] in _OF_WEIGHTS


def _settings(config: Config, names: Sequence[str]) -> dict[str, Any]:
    """Return sections and single settings, each setting by its full name."""
    found = named_settings(config.model_dump(mode="json"))
    return {key: value for key, value in found.items() if any(f"{key}.".startswith(f"{name}.") for name in names)}


def _check_run(run: Path, prepared: PreparedData) -> dict[str, Any]:
    facts = finished_on(run, prepared)
    if facts.get("stage", "sft") != "sft":
        raise ArtifactError(f"{str(run)!r} is of stage two, expected a run of stage one")
    return facts
