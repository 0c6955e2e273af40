"""Fitted baselines on disk: arrays as safetensors, everything else as JSON.

==================  ====================================================================
baseline.json       what it is: layout version, name, settings, seed, trials
arrays.safetensors  counts and weights
own/                instead, what a baseline of one's own has saved
==================  ====================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flr.baselines.assisted import AssistedTransitions
from flr.baselines.fitting import Baseline, BuiltIn, FittedBaseline, Trial
from flr.baselines.item_neighbours import Ease, ItemNeighbours
from flr.baselines.neighbours import LastItemMarkov
from flr.baselines.popularity import Popularity
from flr.baselines.registry import Rival, registered
from flr.baselines.sequential import SequenceScorer, build_network
from flr.baselines.settings import NetworkSettings
from flr.baselines.transitions import TransitionMixture
from flr.config import AssistantConfig
from flr.devices import default_device, own_random_numbers
from flr.errors import ArtifactError
from flr.persistence import new_folder, read_json, write_json
from flr.sequential.assistant import build_assistant
from flr.transitions import Transitions

#: Layout of a saved baseline; raised when older folders become unreadable.
FORMAT_VERSION: Final = 1
META_FILE: Final = "baseline.json"
#: What a baseline of one's own saves goes below it.
OWN_FOLDER: Final = "own"
_ARRAYS: Final = "arrays.safetensors"
_COUNTS, _WEIGHTS, _TRANSITIONS, _ASSISTANT = "popularity.counts", "network.", "transitions.", "assistant."


def save_baseline(
    fitted: FittedBaseline, path: Path, *, facts: Mapping[str, Any] | None = None, overwrite: bool = False
) -> None:
    """Write a fitted baseline into a folder, whole or not at all.

    Args:
        fitted: What is saved.
        path: Its folder, made here.
        facts: Further entries of ``baseline.json``, such as the seed and the hash of the data.
        overwrite: Replace a baseline that is already there.

    Raises:
        ArtifactError: The folder exists and `overwrite` is False, or it holds no baseline.
        StorageError: The disk refused; what was there before is untouched.
    """
    meta = {
        "format_version": FORMAT_VERSION,
        "name": fitted.name,
        "best": fitted.best,
        "trials": [asdict(trial) for trial in fitted.trials],
        **(facts or {}),
    }
    with new_folder(path, overwrite=overwrite, marker=META_FILE) as folder:
        if isinstance(fitted.scorer, Rival):
            (folder / OWN_FOLDER).mkdir()
            fitted.scorer.save(folder / OWN_FOLDER)
            meta["n_weights"] = getattr(fitted.scorer, "n_weights", None)
        else:
            save_file(_arrays(fitted.scorer), folder / _ARRAYS)
            if isinstance(fitted.scorer, AssistedTransitions):
                built = {"settings": fitted.scorer.settings.model_dump(mode="json"), "window": fitted.scorer.window}
                meta["assistant"] = built
        write_json(folder / META_FILE, meta)


def load_baseline(path: Path) -> FittedBaseline:
    """Return a baseline that `save_baseline` wrote; networks go to a GPU where there is one.

    Raises:
        ArtifactError: The folder is missing, half-written, corrupt or of another version.
        ConfigError: It is one of one's own, which nobody has registered.
    """
    meta = _meta(path)
    try:
        trials = tuple(_trial(trial) for trial in meta["trials"])
        own = registered(meta["name"])
        if own is not None:
            scorer: Baseline = own.kind.load(path / OWN_FOLDER)
        else:
            scorer = _scorer(meta, load_file(path / _ARRAYS), trials[meta["best"]].settings)
    except (OSError, SafetensorError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"cannot read the baseline {str(path)!r}: {error}; fit it again") from error
    return FittedBaseline(meta["name"], scorer, trials, meta["best"])


def best_settings(path: Path) -> dict[str, Any]:
    """Return the settings of the trial that a saved baseline is of; empty where nothing is chosen.

    Raises:
        ArtifactError: The folder is missing, corrupt or of another version.
    """
    meta = _meta(path)
    try:
        return dict(meta["trials"][meta["best"]]["settings"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ArtifactError(f"cannot read the baseline {str(path)!r}: {error}; fit it again") from error


def _meta(path: Path) -> dict[str, Any]:
    meta = read_json(path / META_FILE, "saved baseline")
    if meta.get("format_version") != FORMAT_VERSION:
        raise ArtifactError(
            f"{str(path)!r} has format version {meta.get('format_version')!r}, this flr reads {FORMAT_VERSION}; "
            "fit the baseline again, or install the flr that wrote it"
        )
    return meta


def _arrays(scorer: BuiltIn) -> dict[str, Tensor]:
    if isinstance(scorer, Popularity):
        return {_COUNTS: torch.from_numpy(scorer.counts.astype(np.int64))}
    counts = _arrays(scorer.popularity)
    if isinstance(scorer, SequenceScorer):
        weights = scorer.network.state_dict()
        return counts | {_WEIGHTS + name: tensor.detach().contiguous().cpu() for name, tensor in weights.items()}
    if isinstance(scorer, AssistedTransitions):
        weights = scorer.assistant.state_dict()
        return _arrays(scorer.votes) | {
            _ASSISTANT + name: tensor.contiguous().cpu() for name, tensor in weights.items()
        }
    if isinstance(scorer, TransitionMixture):
        return counts | {_TRANSITIONS + name: table for name, table in scorer.transitions.tables().items()}
    names = ("offsets", "followers", "shares") if isinstance(scorer, LastItemMarkov) else ("neighbours", "similarities")
    return counts | {name: torch.from_numpy(np.ascontiguousarray(getattr(scorer, name))) for name in names}


def _scorer(meta: Mapping[str, Any], arrays: Mapping[str, Tensor], settings: dict[str, Any]) -> BuiltIn:
    name = meta["name"]
    popularity = Popularity(arrays[_COUNTS].numpy())
    if name == Popularity.name:
        return popularity
    if name == LastItemMarkov.name:
        parts = [arrays[part].numpy() for part in ("offsets", "followers", "shares")]
        return LastItemMarkov(popularity, *parts)
    if name in (ItemNeighbours.name, Ease.name):
        kind = Ease if name == Ease.name else ItemNeighbours
        return kind(popularity, arrays["neighbours"].numpy(), arrays["similarities"].numpy(), settings["decay"])
    if name in (TransitionMixture.name, AssistedTransitions.name):
        table = Transitions.from_tables(_below(_TRANSITIONS, arrays))
        votes = TransitionMixture(popularity, table, settings["decay"], tuple(settings["relations"]))
        if name == TransitionMixture.name:
            return votes
        config, window = AssistantConfig(**meta["assistant"]["settings"]), meta["assistant"]["window"]
        with own_random_numbers(0):  # its weights follow
            assistant = build_assistant(config, len(popularity.counts), window)
        assert assistant is not None
        assistant.load_state_dict(_below(_ASSISTANT, arrays))
        return AssistedTransitions(votes, assistant.to(default_device()), config, window)
    weights = _below(_WEIGHTS, arrays)
    titles = weights["titles"].numpy() if "titles" in weights else None
    chosen = NetworkSettings(**settings)
    network = build_network(name, len(popularity.counts), chosen, titles)
    network.load_state_dict(weights)
    return SequenceScorer(name, network.to(default_device()), chosen.window, popularity)


def _below(prefix: str, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the arrays whose names have a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def _trial(saved: dict[str, Any]) -> Trial:
    return Trial(**{**saved, "valid": math.nan if saved["valid"] is None else saved["valid"]})
