"""Read beginnings of titles below encoded histories, one level of the trie at a time, each token once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from flr.backbone.streams import Backbone, EncodedStreams


@dataclass(frozen=True)
class Foreseen:
    """Trie nodes that were read in the last columns of the histories, which are no part of these.

    Attributes:
        nodes: -1 where there is none, [B, S].
        hidden: Hidden states, [B, S, D].
        sees: Which of the last C columns each node sees, itself and thoughts included, [B, S, C].
    """

    nodes: Tensor
    hidden: Tensor
    sees: Tensor

    def rows(self, chosen: Tensor) -> Foreseen:
        """Return some of the rows."""
        return Foreseen(self.nodes[chosen], self.hidden[chosen], self.sees[chosen])


@dataclass(frozen=True)
class Below:
    """What titles are read below.

    Attributes:
        streams: Encoded histories, thoughts included.
        first_position: Position of the first token of a title in each, [B].
        foreseen: Nodes that have been read already; None where there are none.
    """

    streams: EncodedStreams
    first_position: Tensor
    foreseen: Foreseen | None = None

    def rows(self, chosen: Tensor) -> Below:
        """Return some of the rows."""
        foreseen = None if self.foreseen is None else self.foreseen.rows(chosen)
        return Below(self.streams.rows(chosen), self.first_position[chosen], foreseen)


#: Rows, ascending -> what their titles are read below.
HistoriesOf = Callable[[Tensor], Below]


class PrefixReader:
    """Reads trie nodes level by level; what was read above stays in the cache.

    Only rows that still have nodes are carried along, so a level costs as much as it has nodes that nobody foresaw.

    Args:
        backbone: Reads the tokens.
        histories_of: Called once, with the rows that have nodes on the first level.
        token_of_node: Token on the edge into each trie node, [n_nodes].
    """

    def __init__(self, backbone: Backbone, histories_of: HistoriesOf, token_of_node: Tensor) -> None:
        self.backbone, self.histories_of, self.token_of_node = backbone, histories_of, token_of_node
        self.depth = 0
        self._n_columns: int
        self.active: Tensor
        self.below: Below
        self.sees: Tensor

    def __call__(self, rows: Tensor, nodes: Tensor, parents: Tensor) -> Tensor:
        """Return hidden states of the next level's nodes, [F, D].

        Args:
            rows: Row of each node, ascending, [F].
            nodes: Trie nodes, [F].
            parents: Place of each node's parent among the nodes of the previous call; at first, anything, [F].
        """
        active, row = torch.unique_consecutive(rows, return_inverse=True)
        if self.depth == 0:
            self.below = self.histories_of(active)
            sees = self.below.streams.real[row]
            self._n_columns = sees.shape[1]
        else:
            sees = self.sees[parents]
            if len(active) < len(self.active):
                self.below = self.below.rows(torch.searchsorted(self.active, active))
        self.active = active
        if self.below.foreseen is None:
            hidden, self.sees = self._read(row, nodes, sees)
        else:
            hidden, self.sees = self._read_or_recall(row, nodes, sees, self.below.foreseen)
        self.depth += 1
        return hidden

    def _read_or_recall(self, row: Tensor, nodes: Tensor, sees: Tensor, foreseen: Foreseen) -> tuple[Tensor, Tensor]:
        """Return what `_read` does, of nodes that were foreseen without reading them."""
        is_here = foreseen.nodes[row] == nodes[:, None]
        slot, is_known = is_here.int().argmax(1), is_here.any(1)
        hidden, of_last = foreseen.hidden[row, slot], foreseen.sees[row, slot]
        # Histories begin at column 0 and foreseen nodes end where thoughts do; what was read later comes after them.
        n_first = self._n_columns - of_last.shape[1]
        known = torch.cat([self.below.streams.real[row, :n_first], of_last], dim=1)
        known = pad(known, (0, sees.shape[1] - known.shape[1]))
        missing = torch.nonzero(~is_known)[:, 0]
        if not len(missing):
            return hidden, known
        read, seen = self._read(row[missing], nodes[missing], sees[missing])
        known = pad(known, (0, seen.shape[1] - known.shape[1]))
        return hidden.index_copy(0, missing, read), known.index_copy(0, missing, seen)

    def _read(self, row: Tensor, nodes: Tensor, sees: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden states of nodes, [F, D], and which columns their children see, [F, columns].

        Args:
            row: Active row of each node, ascending, [F].
            nodes: Trie nodes, [F].
            sees: Columns that each node sees but for itself, [F, columns so far].
        """
        streams, n_rows = self.below.streams, len(self.active)
        counts = torch.bincount(row, minlength=n_rows)
        slot = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        n_slots = self.backbone.whole_slots(int(counts.max()), n_rows)
        real = torch.arange(n_slots, device=row.device) < counts[:, None]
        sees = torch.cat([sees, one_hot(slot, n_slots).bool()], dim=1)
        # Padding looks at everything there is; nobody looks at padding.
        mask = torch.ones(n_rows, n_slots, sees.shape[1], dtype=torch.bool, device=row.device)
        mask[row, slot] = sees
        tokens = torch.zeros(real.shape, dtype=torch.long, device=row.device)
        tokens[row, slot] = self.token_of_node[nodes]
        positions = (self.below.first_position + self.depth)[:, None].expand_as(tokens)
        grown = self.backbone.grow(streams, self.backbone.embed(tokens), positions, mask[:, None], real)
        self.below = replace(self.below, streams=grown)
        hidden = grown.hidden[row, sees.shape[1] - n_slots + slot]
        return hidden, pad(sees, (0, grown.real.shape[1] - sees.shape[1]))
