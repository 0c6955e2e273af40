"""One scorer for all networks, and how each is built and trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from flr.baselines.language import AlphaRec
from flr.baselines.neighbours import known_items
from flr.baselines.networks import BERT4Rec, Caser
from flr.baselines.popularity import Popularity
from flr.baselines.settings import NetworkSettings
from flr.errors import ConfigError
from flr.progress import SILENT, Progress
from flr.records import FloatArray, Histories, UserSequences
from flr.sequential.fitting import Training, fit_network
from flr.sequential.networks import GRU4Rec, SASRec, SequenceNetwork
from flr.sequential.windows import TrainingWindows, padded

#: Histories per forward of a scorer.
_SCORED_ROWS: Final = 256


class SequenceScorer:
    """A network as a recommender; an empty history falls back to popularity.

    Args:
        name: What the report calls it.
        network: Trained.
        window: Most recent items of a history that are read.
        popularity: The fall-back.
    """

    def __init__(self, name: str, network: SequenceNetwork, window: int, popularity: Popularity) -> None:
        self.name, self.network, self.window, self.popularity = name, network, window, popularity

    def score(self, histories: Histories) -> FloatArray:
        """Return ``log p(y | history)``, [B, N] float32; items that are not in the catalogue are skipped."""
        known = known_items(histories, self.network.n_items).window(self.window)
        scores = np.array(self.popularity.score(histories), dtype=np.float32)
        rows = np.flatnonzero(known.lengths)
        self.network.eval()
        with torch.inference_mode():
            for start in range(0, len(rows), _SCORED_ROWS):
                part = rows[start : start + _SCORED_ROWS]
                scores[part] = self._log_probs(known.take(part)).cpu().numpy()
        return scores

    def _log_probs(self, histories: Histories) -> Tensor:
        device = next(self.network.parameters()).device
        items, ends = padded(histories, self.network.n_items, is_cloze=self.network.is_cloze)
        states = self.network(items.to(device))
        return functional.log_softmax(self.network.logits(states[torch.arange(len(items)), ends.to(device)]), dim=-1)


def build_network(
    name: str, n_items: int, settings: NetworkSettings, titles: FloatArray | None = None
) -> SequenceNetwork:
    """Return an untrained network, its weights from torch's global generator.

    Args:
        name: ``gru4rec``, ``caser``, ``sasrec``, ``bert4rec`` or ``alpharec``.
        n_items: Size of the catalogue N.
        settings: Widths and such.
        titles: Language embeddings of the titles, [N, D_title]; alpharec needs them.

    Raises:
        ConfigError: alpharec got no title embeddings, or not one for each item.
    """
    common: dict[str, Any] = {"width": settings.width, "dropout": settings.dropout}
    if name == "gru4rec":
        return GRU4Rec(n_items, **common)
    if name == "caser":
        return Caser(n_items, **common)
    if name in ("sasrec", "bert4rec"):
        attention = {"n_layers": settings.n_layers, "n_heads": settings.n_heads}
        if name == "sasrec":
            return SASRec(n_items, **common, **attention, window=settings.window)
        return BERT4Rec(n_items, **common, **attention, window=settings.window + 1)  # one more for the mask
    if titles is None or len(titles) != n_items:
        got = "none" if titles is None else f"{len(titles):,}"
        raise ConfigError(f"alpharec got {got} title embeddings, expected one for each of {n_items:,} items")
    return AlphaRec(torch.from_numpy(np.array(titles, np.float32)), **common, temperature=settings.temperature)


def train_network(
    scorer: SequenceScorer,
    sequences: UserSequences,
    settings: NetworkSettings,
    validate: Callable[[SequenceScorer], float],
    *,
    seed: int,
    progress: Progress = SILENT,
) -> Training:
    """Train a network in place, and leave it with the weights that did best on validation.

    Args:
        scorer: The network, as it will be used.
        sequences: All users; held-out rows are never read.
        settings: Steps and rates.
        validate: Returns NDCG@10 on validation.
        seed: Seed of batches and dropout; torch's global generator is left as it was.
        progress: Told about epochs.

    Raises:
        DataError: There is no training target.
        FlrError: The loss is no longer finite.
    """
    network = scorer.network
    return fit_network(
        network,
        TrainingWindows(sequences, network.n_items, settings.window),
        settings,
        lambda: validate(scorer),
        name=scorer.name,
        seed=seed,
        mask_share=settings.mask_share if network.is_cloze else None,
        progress=progress,
    )
