"""What travels along the road: one record per stretch between two stations.

A station takes the record on its left and returns the record on its right, so no station imports
another. Arrays are NumPy up to the token streams and torch from the packed batch on; this file imports
torch for type checking only.

Shape letters, here and everywhere:

==  ==============================================
B   rows of a batch          P   targets per row
L   tokens of a stream       T   tokens of all branches of a row
D   width of hidden states   K   factors
R   refinement steps         G   thoughts in a group
N   items                    V   vocabulary
U   users                    M   trie nodes evaluated
W   items of a history       Q   relations of a memory
==  ==============================================
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import polars as pl
    import torch

IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]

USER_ID: Final = "user_id"
ITEM_ID: Final = "item_id"
TIMESTAMP: Final = "timestamp"
TITLE: Final = "title"
RATING: Final = "rating"
SPLIT: Final = "split"
ORDER: Final = "order"
FINER: Final = "finer"
USER_INDEX: Final = "user_index"
ITEM_INDEX: Final = "item_index"

#: Codes of `UserSequences.split`; a context row is history only, never a target.
SPLITS: Final = ("context", "train", "valid", "test")
CONTEXT, TRAIN, VALID, TEST = range(4)


@dataclass(frozen=True)
class Interactions:
    """Raw files, read: who took what when, and what each item is called.

    Attributes:
        frame: One row per interaction in file order: ``user_id`` (String), ``item_id`` (String),
            ``timestamp`` (Int64, seconds since 1970), and where the file has them ``rating`` (Float64),
            ``split`` (String), ``order`` (Int64, the order within a user; ranks of what has fractions) and ``finer``
            (the time in the file's own unit, where seconds would tie what it tells apart; rows are in its order).
        items: One row per listed item: ``item_id`` (String), ``title`` (String, may be null), attributes.
        source: What was read, for the manifest: paths, format, mapped columns.
        dropped: Reason -> number of rows that were left out while reading (only where the user allowed it).
    """

    frame: pl.DataFrame
    items: pl.DataFrame
    source: dict[str, Any] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class UserSequences:
    """All interactions, grouped by user and ordered by time within each, in flat arrays.

    Attributes:
        user_ids: The users' own ids, [U] strings.
        offsets: User u owns rows ``offsets[u]:offsets[u + 1]``, [U + 1] int64.
        item_index: Item of each row, int32, 0..N-1.
        timestamps: Seconds since 1970, int64.
        split: Code of each row, int8, see `SPLITS`. Never falls within a user (checked on preparation).
    """

    user_ids: npt.NDArray[np.object_]
    offsets: IntArray
    item_index: IntArray
    timestamps: IntArray
    split: npt.NDArray[np.int8]

    @property
    def n_users(self) -> int:
        return len(self.user_ids)

    @property
    def n_interactions(self) -> int:
        return len(self.item_index)

    @cached_property
    def users(self) -> IntArray:
        """User of each row, [R]."""
        return np.repeat(np.arange(self.n_users), np.diff(self.offsets))

    @cached_property
    def is_seen(self) -> BoolArray:
        """Whether training sees each row: training rows, and context rows that a later one of the same user reads, [R].

        Context that only held-out rows read may be newer than they are, as where a split cuts at points of time.
        """
        rows, is_train = np.arange(self.n_interactions), self.split == TRAIN
        last = np.full(self.n_users, -1)
        np.maximum.at(last, self.users[is_train], rows[is_train])
        seen: BoolArray = is_train | ((self.split == CONTEXT) & (rows < last[self.users]))
        return seen

    def targets(self, split: int) -> tuple[IntArray, IntArray]:
        """Return user index and row of every target of `split` that has at least one earlier row."""
        users = self.users
        rows = np.flatnonzero((self.split == split) & (np.arange(self.n_interactions) > self.offsets[users]))
        return users[rows], rows

    def where(self, kept: BoolArray) -> UserSequences:
        """Return the same users with some of the rows, True at those to keep, [R]."""
        n_before = np.concatenate([[0], np.cumsum(kept)])
        rows = (self.item_index[kept], self.timestamps[kept], self.split[kept])
        return UserSequences(self.user_ids, n_before[self.offsets], *rows)


def ragged_indices(starts: IntArray, lengths: IntArray) -> tuple[IntArray, IntArray]:
    """Return the indices of many runs, concatenated, and the offsets of the runs.

    Args:
        starts: First index of each run, [n].
        lengths: Length of each run, [n].

    >>> indices, offsets = ragged_indices(np.array([5, 0]), np.array([2, 3]))
    >>> indices.tolist(), offsets.tolist()
    ([5, 6, 0, 1, 2], [0, 2, 5])
    """
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths), offsets


@dataclass(frozen=True)
class Histories:
    """What each of B people took so far, oldest first, in flat arrays.

    Attributes:
        item_index: Items of all histories, concatenated, int32 or int64.
        offsets: History b owns ``item_index[offsets[b]:offsets[b + 1]]``, [B + 1] int64.
    """

    item_index: IntArray
    offsets: IntArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> IntArray:
        return np.diff(self.offsets)

    @classmethod
    def of(cls, histories: Sequence[Sequence[int]]) -> Histories:
        """Return histories of item indices, given as a list for each.

        >>> Histories.of([[7, 8], [9]]).offsets.tolist()
        [0, 2, 3]
        """
        offsets = np.cumsum([0, *map(len, histories)], dtype=np.int64)
        return cls(np.fromiter(itertools.chain.from_iterable(histories), np.int64, offsets[-1]), offsets)

    @classmethod
    def before(cls, sequences: UserSequences, users: IntArray, rows: IntArray) -> Histories:
        """Return what each user had taken before the given row of theirs (whole histories, no window)."""
        starts = sequences.offsets[users]
        indices, offsets = ragged_indices(starts, rows - starts)
        return cls(sequences.item_index[indices], offsets)

    def window(self, size: int) -> Histories:
        """Return the last `size` items of every history."""
        kept = np.minimum(self.lengths, size)
        indices, offsets = ragged_indices(self.offsets[1:] - kept, kept)
        return Histories(self.item_index[indices], offsets)

    def take(self, rows: IntArray) -> Histories:
        """Return the histories at `rows`, in that order."""
        indices, offsets = ragged_indices(self.offsets[rows], self.lengths[rows])
        return Histories(self.item_index[indices], offsets)

    def padded(self, fill: int) -> IntArray:
        """Return the items of each history in a row, `fill` after the last, [B, longest] int64.

        >>> Histories(np.array([7, 8, 9]), np.array([0, 2, 2, 3])).padded(-1).tolist()
        [[7, 8], [-1, -1], [9, -1]]
        """
        columns = np.arange(self.lengths.max(initial=0))
        items = np.full((len(self), len(columns)), fill, dtype=np.int64)
        items[columns < self.lengths[:, None]] = self.item_index
        return items


@dataclass(frozen=True)
class Catalogue:
    """Items and the cleaned titles they are recommended by.

    An item keeps its index for good. One that is taken out of a live catalogue is retired: its title can still be
    read in histories, but is not written any more.

    Attributes:
        item_ids: The items' own ids, [N] strings.
        titles: Cleaned, never-empty title of each item, [N] strings.
        leaf: Leaf (distinct title) of each item, [N] int32; items with equal titles share one.
        leaf_titles: Distinct titles, strings: those that can be recommended, in order of first appearance, then those
            of retired items only.
        attributes: Further columns of the items table, in item order.
        retired: True at items that are not recommended any more, [N]; None where there are none.
        barred: Attributes whose texts are parted at bars only; None: the texts that are there decide.
    """

    item_ids: npt.NDArray[np.object_]
    titles: npt.NDArray[np.object_]
    leaf: IntArray
    leaf_titles: npt.NDArray[np.object_]
    attributes: pl.DataFrame | None = None
    retired: BoolArray | None = None
    barred: frozenset[str] | None = None

    @property
    def n_items(self) -> int:
        """Items N, retired ones included."""
        return len(self.item_ids)

    @property
    def n_retired(self) -> int:
        """Items that are not recommended any more."""
        return 0 if self.retired is None else int(self.retired.sum())

    @property
    def n_leaves(self) -> int:
        """Distinct titles that can be recommended."""
        return len(self.leaf_titles) if self.retired is None else int(self.leaf[~self.retired].max()) + 1


@dataclass(frozen=True)
class PreparedData:
    """A prepared folder in memory.

    Attributes:
        sequences: All interactions.
        items: Items in the order of their index; cold ones, where they were asked for, come last.
        manifest: What is known about the data.
    """

    sequences: UserSequences
    items: pl.DataFrame
    manifest: dict[str, Any]

    @property
    def n_cold(self) -> int:
        """Items that were withheld from training when the data were prepared, whether or not they are here."""
        return int(self.manifest.get("cold", {}).get("n_items", 0))


@dataclass(frozen=True)
class TokenizedTitles:
    """Token ids of every distinct title, each closed by the end-of-item token.

    Attributes:
        ids: All token ids, concatenated, int64.
        offsets: Leaf i owns ``ids[offsets[i]:offsets[i + 1]]``, [n_leaves + 1] int64.
        eoi_id: The end-of-item token.
    """

    ids: IntArray
    offsets: IntArray
    eoi_id: int

    @property
    def lengths(self) -> IntArray:
        return np.diff(self.offsets)

    def first(self, n: int) -> TokenizedTitles:
        """Return the first n titles."""
        return TokenizedTitles(self.ids[: self.offsets[n]], self.offsets[: n + 1], self.eoi_id)


@dataclass(frozen=True)
class TokenTrie:
    """The titles of a catalogue as a token trie in flat integer arrays.

    Nodes are numbered level by level, and within a level by parent and token, so the children of a node
    are a contiguous run. Node 0 is the root. An edge is named by the node it leads to.

    Attributes:
        parent: Parent of each node, -1 for the root, [n_nodes] int32.
        token: Token on the edge into each node, -1 for the root, [n_nodes] int32.
        depth: Tokens from the root, [n_nodes] int32.
        child_start: First child of each node, [n_nodes] int32.
        n_children: Number of children of each node, 0 at leaves, [n_nodes] int32.
        node_of_leaf: The node that closes each leaf's title, [n_leaves] int32.
    """

    parent: IntArray
    token: IntArray
    depth: IntArray
    child_start: IntArray
    n_children: IntArray
    node_of_leaf: IntArray

    @property
    def n_nodes(self) -> int:
        return len(self.parent)

    @property
    def n_leaves(self) -> int:
        return len(self.node_of_leaf)

    @property
    def branching(self) -> BoolArray:
        """True at nodes with more than one child, [n_nodes]."""
        return self.n_children > 1


@dataclass(frozen=True)
class TriePaths:
    """The choices that writing each title takes: one per node on its path where a token is chosen.

    Attributes:
        nodes: The nodes, root first, of all leaves concatenated, int32.
        children: The child (a node) that the title takes at each of them, int32.
        offsets: Leaf i owns ``nodes[offsets[i]:offsets[i + 1]]``, [n_leaves + 1] int64.
        n_written: Tokens that must be fed to reach the last of these nodes, [n_leaves] int32.
    """

    nodes: IntArray
    children: IntArray
    offsets: IntArray
    n_written: IntArray


@dataclass(frozen=True)
class PackedBatch:
    """Shared-prefix training examples: streams of several users per row, and a branch per target.

    Where prompts share no prefix, a segment has one target.

    Attributes:
        stream_ids: Token ids of the histories, [B, L] int64.
        stream_positions: Position of each token within its own segment, [B, L] int64.
        stream_segments: Number of the segment in the row, -1 at padding, [B, L] int64.
        stream_places: Place of each token's item in its segment, -1 outside titles, [B, L] int64.
        target_starts: Stream column at which the target's segment starts, [B, P] int64.
        target_ends: Stream column of the last prompt token of each target, [B, P] int64.
        target_items: Item index of each target, -1 at padding, [B, P] int64.
        branch_ids: Token ids of the branches, 0 at thought slots and padding, [B, T] int64.
        branch_targets: Which of the row's P targets a branch token belongs to, -1 at padding, [B, T] int64.
        branch_offsets: Place within the branch, 0 at its first thought, [B, T] int64.
        score_rows, score_columns: Places (b, t) whose hidden state predicts a token; t = -1 means the last
            prompt token (models without a thought), [S] int64.
        score_targets: Column p of the target that each scored place belongs to, [S] int64.
        score_nodes: Trie node at each scored place, [S] int64.
        score_children: The child of that node which the target's title takes (a trie node), [S] int64.
        evidence: What the memory says of each target after each item of its segment, 0 after later ones,
            [B, P, W, Q] float32; None for models without a memory, like the next two.
        target_popularity: What it says where nothing was read, [B, P] float32.
        target_sharing: log of how many items share the target's title, [B, P] float32.
    """

    stream_ids: torch.Tensor
    stream_positions: torch.Tensor
    stream_segments: torch.Tensor
    stream_places: torch.Tensor
    target_starts: torch.Tensor
    target_ends: torch.Tensor
    target_items: torch.Tensor
    branch_ids: torch.Tensor
    branch_targets: torch.Tensor
    branch_offsets: torch.Tensor
    score_rows: torch.Tensor
    score_columns: torch.Tensor
    score_targets: torch.Tensor
    score_nodes: torch.Tensor
    score_children: torch.Tensor
    evidence: torch.Tensor | None = None
    target_popularity: torch.Tensor | None = None
    target_sharing: torch.Tensor | None = None

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor]) -> PackedBatch:
        """Return the batch whose fields are among some tensors, wherever these are by now."""
        return cls(**{field.name: tensors[field.name] for field in fields(cls) if field.name in tensors})

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the fields that are there, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    @property
    def target_mask(self) -> torch.Tensor:
        """True where a target is real, [B, P]."""
        return self.target_items >= 0


@dataclass(frozen=True)
class Thought:
    """The latent thought of each target, and how it came about.

    Attributes:
        vectors: Input embeddings of the thought positions, [B, P, n_thoughts, D].
        states: The shared thought z^0..z^R, [B, P, R + 1, D].
        factors: Factors f_k of every refinement step, [R, B, P, K, d_f].
        attentions: Attention a_k over the stream of every step, [R, B, P, K, L].
        gates: Aggregation weights g of every step, [R, B, P, K].
    """

    vectors: torch.Tensor
    states: torch.Tensor
    factors: torch.Tensor
    attentions: torch.Tensor
    gates: torch.Tensor


@dataclass(frozen=True)
class Ranking:
    """The best items of each history.

    Attributes:
        item_index: Best first, [B, k] int64; -1 where fewer than k items were left to rank.
        log_probs: Natural log of p(item | history), [B, k].
    """

    item_index: IntArray
    log_probs: FloatArray


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        name: What was evaluated, for example ``"flr"`` or ``"popularity"``.
        split: ``"valid"`` or ``"test"``.
        metrics: Metric name -> value, for example ``{"ndcg@10": 0.064}``.
        per_target: One row per evaluated target (user, item, rank statistics, metrics), for later tests.
        seconds: Wall-clock time of the evaluation.
        seen_items: ``"exclude"`` or ``"include"``: whether items of the history were candidates; None in reports from
            before that was kept.
    """

    name: str
    split: str
    metrics: dict[str, float]
    per_target: pl.DataFrame
    seconds: float
    seen_items: str | None = None
