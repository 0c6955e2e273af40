"""Shared-prefix batches: a history is encoded once, and every target opens a branch on it.

A window of a user's history is one segment: its stream is encoded once, and each target position i opens a
branch [thought_i, tokens of title_{i+1}] that attends to the stream up to item i and to itself only. Several
segments share a row, rows are filled by tokens, and all index arrays are built without a loop over tokens.

A template with a suffix has no prefixes to share: there each target is a segment of its own, the last rows of the
user before it, and everything else is the same.

Source: METHOD 2 and 6.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from flr.records import (
    TRAIN,
    BoolArray,
    FloatArray,
    Histories,
    IntArray,
    PackedBatch,
    TriePaths,
    UserSequences,
    ragged_indices,
)
from flr.text.template import PromptTemplate

#: (rows that were read [n], rows that are asked about [n]) -> what a memory says of the latter, [n, Q].
Evidence = Callable[[IntArray, IntArray], FloatArray]

#: Segments that are packed together; larger packs tighter, smaller mixes users more.
_CHUNK = 4096


@dataclass(frozen=True)
class Windows:
    """Runs of a user's rows: the first is history only, every later one a target of those before it.

    Where prefixes are not shared, only the last row of a run is a target.

    Attributes:
        starts, ends: Run i covers rows ``starts[i]:ends[i]`` of the sequences, at least two, int64.
    """

    starts: IntArray
    ends: IntArray

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, chosen: IntArray) -> Windows:
        return Windows(self.starts[chosen], self.ends[chosen])


def training_windows(sequences: UserSequences, window: int, rng: np.random.Generator) -> Windows:
    """Cut every user's rows up to the last training row into windows; each target falls into exactly one.

    Windows of context alone, which have no target, are left out. Long histories are cut at a random phase, so that over
    epochs a target is seen after short and long contexts.

    Args:
        sequences: All users.
        window: Most history items of a segment.
        rng: Draws the phase of each user.
    """
    users = sequences.users
    ends = np.zeros(sequences.n_users, dtype=np.int64)
    train_rows = np.flatnonzero(sequences.split == TRAIN)
    ends[users[train_rows]] = train_rows + 1  # rows ascend, so the last assignment wins
    starts = sequences.offsets[:-1].astype(np.int64)
    usable = ends - starts >= 2
    starts, ends = starts[usable], ends[usable]
    n_targets = ends - starts - 1
    phase = np.where(n_targets > window, rng.integers(0, window, len(starts)), 0)
    first = np.where(phase > 0, phase, np.minimum(n_targets, window))
    n_windows = 1 + -(-(n_targets - first) // window)
    place, _ = ragged_indices(np.zeros(len(starts), dtype=np.int64), n_windows)
    owner = np.repeat(np.arange(len(starts)), n_windows)
    cut_start = np.where(place == 0, 0, first[owner] + (place - 1) * window)
    cut_end = np.minimum(first[owner] + place * window, n_targets[owner])
    windows = Windows(starts[owner] + cut_start, starts[owner] + cut_end + 1)
    n_before = np.concatenate([[0], np.cumsum(sequences.split == TRAIN)])
    return windows.take(np.flatnonzero(n_before[windows.ends] > n_before[windows.starts + 1]))


def target_windows(sequences: UserSequences, window: int) -> Windows:
    """Return a window for every training target: itself, and the items before it, as far as the window reaches.

    Args:
        sequences: All users.
        window: Most history items of a window.
    """
    users, rows = sequences.targets(TRAIN)
    return Windows(np.maximum(sequences.offsets[users], rows - window).astype(np.int64), rows + 1)


def pack_rows(lengths: IntArray, capacity: int, rng: np.random.Generator) -> list[IntArray]:
    """Return rows of segment numbers whose lengths sum to at most `capacity`, in random order.

    Best fit, longest first, within chunks of shuffled segments.

    Args:
        lengths: Tokens of each segment, none above `capacity`.
        capacity: Tokens of a row.
        rng: Shuffles segments and rows.
    """
    rows: list[IntArray] = []
    order = rng.permutation(len(lengths))
    for start in range(0, len(order), _CHUNK):
        chunk = order[start : start + _CHUNK]
        chunk = chunk[np.argsort(-lengths[chunk], kind="stable")]
        members: list[list[int]] = []
        free: list[tuple[int, int]] = []
        for segment, length in zip(chunk.tolist(), lengths[chunk].tolist(), strict=True):
            place = bisect.bisect_left(free, (length, -1))
            if place == len(free):
                members.append([])
                room, row = capacity, len(members) - 1
            else:
                room, row = free.pop(place)
            members[row].append(segment)
            bisect.insort(free, (room - length, row))
        rows += [np.array(row) for row in members]
    return [rows[i] for i in rng.permutation(len(rows))]


class Packer:
    """Builds `PackedBatch`es from windows.

    Args:
        template: Writes histories as token streams.
        paths: The choices that writing each title takes (branching nodes only, or all nodes).
        node_depth: Depth of every trie node.
        n_thoughts: Thought positions at the head of each branch; 0 for a model without a thought.
        evidence: What a memory says of targets, and popularity [N]; None for a model without a memory.
    """

    def __init__(
        self,
        template: PromptTemplate,
        paths: TriePaths,
        *,
        node_depth: IntArray,
        n_thoughts: int,
        evidence: tuple[Evidence, FloatArray] | None = None,
    ) -> None:
        self.template = template
        self.paths = paths
        self.node_depth = node_depth
        self.n_thoughts = n_thoughts
        self.evidence = evidence
        self._log_sharing = np.log(np.bincount(template.leaf)).astype(np.float32)

    def windows(self, sequences: UserSequences, window: int, rng: np.random.Generator) -> Windows:
        """Return windows in which every training target is asked about once; see `training_windows`."""
        if self.template.shares_prefixes:
            return training_windows(sequences, window, rng)
        return target_windows(sequences, window)

    def lengths(self, windows: Windows, sequences: UserSequences) -> IntArray:
        """Return the stream tokens of each window (its last item is a target only)."""
        return self.template.stream_lengths(windows.starts, windows.ends - 1, sequences.item_index)

    def target_rows(self, windows: Windows, sequences: UserSequences) -> tuple[IntArray, IntArray]:
        """Return the training targets of windows: the window each falls into, and its row of the sequences."""
        rows, offsets = ragged_indices(windows.starts + 1, windows.ends - windows.starts - 1)
        owners = np.repeat(np.arange(len(windows)), np.diff(offsets))
        kept = self._is_target(rows, windows.ends[owners], sequences)
        return owners[kept], rows[kept]

    def _is_target(self, rows: IntArray, ends: IntArray, sequences: UserSequences) -> BoolArray:
        """Return True at the rows of windows that are asked about; `ends` are the ends of their windows."""
        is_train: BoolArray = sequences.split[rows] == TRAIN
        return is_train if self.template.shares_prefixes else is_train & (rows == ends - 1)

    def collate(
        self, windows: Windows, rows: IntArray, sequences: UserSequences, asked: IntArray | None = None
    ) -> PackedBatch:
        """Return one batch.

        Args:
            windows: The segments of the batch, grouped by row.
            rows: Row of each segment, ascending from 0.
            sequences: The users the windows are cut from.
            asked: Places among `target_rows` of the targets that get a branch, ascending; None takes all.
        """
        n_items = windows.ends - windows.starts - 1
        history_rows, item_offsets = ragged_indices(windows.starts, n_items)
        streams = self.template.streams(Histories(sequences.item_index[history_rows], item_offsets))
        start_columns, segment_numbers = _columns(rows, streams.lengths)

        token_segment = np.repeat(np.arange(len(windows)), streams.lengths)
        token_position = np.arange(len(streams.ids)) - streams.offsets[token_segment]
        place = (rows[token_segment], start_columns[token_segment] + token_position)
        shape = (int(rows[-1]) + 1, int(place[1].max()) + 1)

        item_segment = np.repeat(np.arange(len(windows)), n_items)
        kept = np.flatnonzero(self._is_target(history_rows + 1, windows.ends[item_segment], sequences))
        kept = kept if asked is None else kept[asked]
        target_segment = item_segment[kept]
        targets = {
            "starts": start_columns[target_segment],
            "ends": start_columns[target_segment] + streams.item_ends[kept] + self.template.n_suffix,
            "items": sequences.item_index[history_rows[kept] + 1].astype(np.int64),
        }
        target_rows = rows[target_segment]
        target_columns, _ = _columns(target_rows, np.ones(len(target_rows), dtype=np.int64))
        target_place = (target_rows, target_columns)
        target_shape = (shape[0], int(target_columns.max()) + 1)
        return PackedBatch(
            stream_ids=_scatter(shape, place, streams.ids, 0),
            stream_positions=_scatter(shape, place, token_position, 0),
            stream_segments=_scatter(shape, place, segment_numbers[token_segment], -1),
            stream_places=_scatter(shape, place, streams.places, -1),
            target_starts=_scatter(target_shape, target_place, targets["starts"], 0),
            target_ends=_scatter(target_shape, target_place, targets["ends"], 0),
            target_items=_scatter(target_shape, target_place, targets["items"], -1),
            **self._branches(targets["items"], target_rows, target_columns, shape[0]),
            **self._evidence(
                history_rows, item_offsets, (target_segment, kept), (target_shape, target_place), sequences
            ),
        )

    def _evidence(
        self,
        history_rows: IntArray,
        item_offsets: IntArray,
        targets: tuple[IntArray, IntArray],
        where: tuple[tuple[int, int], tuple[IntArray, IntArray]],
        sequences: UserSequences,
    ) -> dict[str, torch.Tensor]:
        """Return what the memory says of each target after each item of its segment before it.

        Args:
            history_rows: Rows of the sequences that the segments read, concatenated.
            item_offsets: Where each segment starts among them.
            targets: Segment of each target, and place among `history_rows` of the row right before it, [n] each.
            where: Shape [B, P] and place of the targets.
            sequences: The users.
        """
        if self.evidence is None:
            return {}
        (say, popularity), (segment, last), (shape, place) = self.evidence, targets, where
        first, asked = item_offsets[segment], history_rows[last] + 1
        read, offsets = ragged_indices(first, last - first + 1)
        owner = np.repeat(np.arange(len(last)), np.diff(offsets))
        said = say(history_rows[read], asked[owner])
        evidence = np.zeros((*shape, int(np.diff(item_offsets).max()), said.shape[1]), dtype=np.float32)
        evidence[place[0][owner], place[1][owner], read - first[owner]] = said
        items = sequences.item_index[asked]
        popular, sharing = np.ones(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
        popular[place] = popularity[items]
        sharing[place] = self._log_sharing[self.template.leaf[items]]
        tables = {"evidence": evidence, "target_popularity": popular, "target_sharing": sharing}
        return {name: torch.from_numpy(table) for name, table in tables.items()}

    def _branches(
        self, items: IntArray, target_rows: IntArray, target_columns: IntArray, n_rows: int
    ) -> dict[str, torch.Tensor]:
        """Return the branch and score fields of a batch; targets are grouped by row."""
        leaves = self.template.leaf[items]
        lengths = self.n_thoughts + self.paths.n_written[leaves].astype(np.int64)
        start_columns, _ = _columns(target_rows, lengths)
        token_target = np.repeat(np.arange(len(items)), lengths)
        offset, _ = ragged_indices(np.zeros(len(items), dtype=np.int64), lengths)
        is_title = offset >= self.n_thoughts
        title_start = self.template.titles.offsets[leaves][token_target[is_title]]
        ids = np.zeros(len(offset), dtype=np.int64)
        ids[is_title] = self.template.titles.ids[title_start + offset[is_title] - self.n_thoughts]
        place = (target_rows[token_target], start_columns[token_target] + offset)
        shape = (n_rows, int(place[1].max()) + 1 if len(offset) else 0)

        n_choices = np.diff(self.paths.offsets)[leaves]
        choices, _ = ragged_indices(self.paths.offsets[leaves], n_choices)
        owner = np.repeat(np.arange(len(items)), n_choices)
        nodes = self.paths.nodes[choices].astype(np.int64)
        within = self.n_thoughts - 1 + self.node_depth[nodes]
        return {
            "branch_ids": _scatter(shape, place, ids, 0),
            "branch_targets": _scatter(shape, place, target_columns[token_target], -1),
            "branch_offsets": _scatter(shape, place, offset, 0),
            "score_rows": torch.from_numpy(target_rows[owner]),
            "score_columns": torch.from_numpy(np.where(within < 0, -1, start_columns[owner] + within)),
            "score_targets": torch.from_numpy(target_columns[owner]),
            "score_nodes": torch.from_numpy(nodes),
            "score_children": torch.from_numpy(self.paths.children[choices].astype(np.int64)),
        }


def _columns(rows: IntArray, lengths: IntArray) -> tuple[IntArray, IntArray]:
    """Return where each of a row's consecutive pieces starts, and its number within the row."""
    ends = np.cumsum(lengths)
    first = np.searchsorted(rows, rows)
    before = np.where(first > 0, ends[first - 1], 0)
    return ends - lengths - before, np.arange(len(rows)) - first


def _scatter(shape: tuple[int, int], place: tuple[IntArray, IntArray], values: IntArray, fill: int) -> torch.Tensor:
    out = np.full(shape, fill, dtype=np.int64)
    out[place] = values
    return torch.from_numpy(out)
