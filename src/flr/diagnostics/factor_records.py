"""What a model thought about every target of a split, in plain arrays: what all other instruments look at.

Attention is kept per item of the history (the sum over its title's tokens), because tokens are not comparable between
histories; what falls on the preamble and the suffix is kept as one number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch

from flr.errors import ConfigError, DataError
from flr.progress import SILENT, Progress
from flr.reasoner.memory import items_in_order
from flr.recommender import Recommender
from flr.records import SPLITS, FloatArray, Histories, IntArray, UserSequences

#: Items kept of what a factor votes for.
N_VOTED: Final = 10


@dataclass(frozen=True)
class FactorRecords:
    """Thoughts on n targets. Shape letters as in `flr.records`; d_f is the factor width.

    Attributes:
        users, rows, items: User index, row of the sequences and item of each target, [n].
        histories: What was read of each target's history: its last `text.window` items.
        vectors: The thought that is fed, [n, n_thoughts, D] float32.
        states: z^0..z^R, [n, R + 1, D] float32.
        factors: f_k of every step, [n, R, K, d_f] float32.
        gates: Aggregation weights g, [n, R, K] float32.
        contributions: Share of each factor in what is added to the thought, [n, R, K] float32:
            ``|W_o^k g_k f_k| / sum_j |W_o^j g_j f_j|``.
        token_entropy: Entropy of each attention by the logarithm of its tokens, 0..1, [n, R, K].
        item_attention: Attention that each item of `histories` gets, in their flat order, [sum of lengths, R, K].
        voted: Items that each factor alone votes for most, best first, [n, K, V]; V = 0 without a memory.
    """

    users: IntArray
    rows: IntArray
    items: IntArray
    histories: Histories
    vectors: FloatArray
    states: FloatArray
    factors: FloatArray
    gates: FloatArray
    contributions: FloatArray
    token_entropy: FloatArray
    item_attention: FloatArray
    voted: IntArray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_factors(self) -> int:
        return int(self.factors.shape[2])

    @property
    def n_steps(self) -> int:
        return int(self.factors.shape[1])

    def pairs(self) -> tuple[IntArray, IntArray]:
        """Return the factor pairs j < k, [K (K - 1) / 2] each."""
        first, second = np.triu_indices(self.n_factors, k=1)
        return first, second

    def take(self, chosen: IntArray) -> FactorRecords:
        """Return some of the targets, in that order."""
        histories = self.histories.take(chosen)
        starts = self.histories.offsets[chosen]
        owner = np.repeat(np.arange(len(chosen)), histories.lengths)
        entries = starts[owner] + np.arange(len(owner)) - histories.offsets[owner]
        return FactorRecords(
            self.users[chosen],
            self.rows[chosen],
            self.items[chosen],
            histories,
            self.vectors[chosen],
            self.states[chosen],
            self.factors[chosen],
            self.gates[chosen],
            self.contributions[chosen],
            self.token_entropy[chosen],
            self.item_attention[entries],
            self.voted[chosen],
        )


def collect_factors(
    recommender: Recommender,
    sequences: UserSequences,
    *,
    split: Literal["train", "valid", "test"] = "test",
    users: IntArray | None = None,
    batch_size: int = 64,
    progress: Progress = SILENT,
) -> FactorRecords:
    """Return what a model thinks about every target of a split.

    Args:
        recommender: A model with a thought.
        sequences: All interactions.
        split: Whose rows are the targets; ``"valid"`` and ``"test"`` are held out.
        users: Only the targets of these users; None takes all.
        batch_size: Histories read at a time; those of similar length go together.
        progress: Told after every batch.

    Raises:
        ConfigError: The model has no thought.
        DataError: The split has no target with an earlier row.
    """
    if recommender.model.reasoner is None:
        raise ConfigError("the model has reasoner.kind = 'none', so there are no factors; choose a run with a thought")
    of_rows, rows = sequences.targets(SPLITS.index(split))
    if users is not None:
        kept = np.isin(of_rows, users)
        of_rows, rows = of_rows[kept], rows[kept]
    if not len(rows):
        raise DataError(f"the split {split!r} has no target with an earlier row, among the users asked for")
    histories = Histories.before(sequences, of_rows, rows).window(recommender.config.text.window)
    order = np.argsort(-histories.lengths, kind="stable")
    parts = []
    with progress.task("collect factors", total=len(rows)) as step, torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            chosen = order[start : start + batch_size]
            parts.append(_think(recommender, histories.take(chosen)))
            step(len(chosen))
    names = parts[0].keys()
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in names}
    sorted_by_length = FactorRecords(
        of_rows[order], rows[order], sequences.item_index[rows[order]].astype(np.int64), histories.take(order), **arrays
    )
    return sorted_by_length.take(np.argsort(order, kind="stable"))


def _think(recommender: Recommender, histories: Histories) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of `FactorRecords` for a few histories."""
    model = recommender.model
    reasoner = model.reasoner
    streams = recommender.snapshot.read(histories)
    thought = model.think(streams).thought
    assert reasoner is not None
    assert thought is not None
    mix = reasoner.mix.weight.view(-1, reasoner.n_factors, reasoner.factor_width)
    # [R, B, 1, K, D]: what each factor adds to the thought
    added = torch.einsum("rbpkf,dkf->rbpkd", (thought.gates[..., None] * thought.factors), mix)
    lengths = torch.linalg.vector_norm(added.float(), dim=-1)
    arrays = {
        "vectors": thought.vectors[:, 0],
        "states": thought.states[:, 0],
        "factors": thought.factors[:, :, 0].transpose(0, 1),
        "gates": thought.gates[:, :, 0].transpose(0, 1),
        "contributions": (lengths / lengths.sum(-1, keepdim=True).clamp(min=1e-30))[:, :, 0].transpose(0, 1),
    }
    found: dict[str, npt.NDArray[Any]] = {name: tensor.float().cpu().numpy() for name, tensor in arrays.items()}
    by_token = thought.attentions[:, :, 0].float().permute(1, 3, 0, 2).cpu().numpy()  # [B, L, R, K]
    template = recommender.compiled.template
    n_read = histories.lengths if reasoner.reads_items else template.streams(histories).lengths
    voted = np.empty((len(histories), reasoner.n_factors, 0), dtype=np.int32)
    if model.memory is not None and streams.items is not None and streams.places is not None:
        votes = model.memory.of_each(thought, items_in_order(streams.items, streams.places), streams.places)
        voted = votes.topk(min(N_VOTED, votes.shape[-1])).indices.cpu().numpy().astype(np.int32)
    return found | {
        "token_entropy": _token_entropy(by_token, n_read),
        "item_attention": template.sum_by_item(by_token, histories).astype(np.float32),
        "voted": voted,
    }


def _token_entropy(by_token: FloatArray, lengths: IntArray) -> FloatArray:
    """Return the entropy over tokens by the logarithm of how many can be read, [B, L, R, K] -> [B, R, K]."""
    logs = np.log(by_token, where=by_token > 0, out=np.zeros_like(by_token))
    entropy: FloatArray = -(by_token * logs).sum(1) / np.log(np.maximum(lengths, 2)[:, None, None])
    return entropy
