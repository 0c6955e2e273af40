"""One training loop and one scorer for all networks: cross-entropy over all items, early stopping on validation."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from flr.baselines.language import AlphaRec
from flr.baselines.neighbours import known_items
from flr.baselines.networks import BERT4Rec, Caser, GRU4Rec, SASRec, SequenceNetwork
from flr.baselines.popularity import Popularity
from flr.baselines.settings import NetworkSettings
from flr.baselines.windows import SequenceBatch, TrainingWindows, padded
from flr.errors import ConfigError, FlrError
from flr.progress import SILENT, Progress
from flr.records import FloatArray, Histories, UserSequences
from flr.seeding import derive_seed, generator

_MAX_GRAD_NORM: Final = 5.0
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


@dataclass(frozen=True)
class Training:
    """How a network's training went.

    Attributes:
        valid: NDCG@10 on validation after each epoch.
        best_epoch: The epoch whose weights were kept, from 1.
        seconds: Wall-clock time.
    """

    valid: tuple[float, ...]
    best_epoch: int
    seconds: float


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
    windows = TrainingWindows(sequences, scorer.network.n_items, settings.window)
    network, started = scorer.network, time.perf_counter()
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    mask_share = settings.mask_share if network.is_cloze else None
    valid: list[float] = []
    best, kept = -1, copy.deepcopy(network.state_dict())
    with torch.random.fork_rng(), progress.task(f"train {scorer.name}", settings.max_epochs) as step:
        torch.manual_seed(derive_seed(seed, "baseline dropout"))
        for epoch in range(settings.max_epochs):
            batches = windows.epoch(generator(seed, "baseline windows", epoch), settings.batch_targets, mask_share)
            losses = [_update(network, optimizer, batch) for batch in batches]
            valid.append(validate(scorer))
            step(1, f"loss {np.mean(losses):.3f}, valid NDCG@10 {valid[-1]:.4f}")
            if best < 0 or valid[-1] > valid[best]:
                best, kept = epoch, copy.deepcopy(network.state_dict())
            if epoch - best >= settings.patience:
                break
    network.load_state_dict(kept)
    return Training(tuple(valid), best + 1, time.perf_counter() - started)


def _update(network: SequenceNetwork, optimizer: torch.optim.Optimizer, batch: SequenceBatch) -> float:
    """Take one step on the mean cross-entropy over a batch's targets, and return it."""
    network.train()
    device = next(network.parameters()).device
    targets = batch.targets.to(device)
    asked = targets >= 0
    states = network(batch.items.to(device))
    loss = functional.cross_entropy(network.logits(states[asked]), targets[asked])
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRAD_NORM)
    optimizer.step()
    value = loss.item()
    if not np.isfinite(value):
        raise FlrError(f"the loss became {value}; train again with a learning rate below {_rate(optimizer)}")
    return value


def _rate(optimizer: torch.optim.Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])
