"""Read beginnings of titles below encoded histories, children after their parents, each token once."""

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


@dataclass(frozen=True)
class Below:
    """What titles are read below.

    Attributes:
        streams: Encoded histories, thoughts included.
        first_position: Position of the first token of a title in each, [B].
        sees: Of nodes that have been read already, and below which others are read first, see `Foreseen`; None where
            there are none, or they have been.
    """

    streams: EncodedStreams
    first_position: Tensor
    sees: Tensor | None = None

    def rows(self, chosen: Tensor) -> Below:
        """Return some of the rows."""
        sees = None if self.sees is None else self.sees[chosen]
        return Below(self.streams.rows(chosen), self.first_position[chosen], sees)


#: Rows, ascending -> what their titles are read below.
HistoriesOf = Callable[[Tensor], Below]


class PrefixReader:
    """Reads trie nodes, and in the next call children of these; what was read above stays in the cache.

    Only rows that still have nodes are carried along, so a call costs as much as it has nodes.

    Args:
        backbone: Reads the tokens.
        histories_of: Called once, with the rows that have nodes in the first call.
        token_of_node: Token on the edge into each trie node, [n_nodes].
        depth_of_node: Depth of each trie node, 1 below the root, [n_nodes].
    """

    def __init__(
        self, backbone: Backbone, histories_of: HistoriesOf, token_of_node: Tensor, depth_of_node: Tensor
    ) -> None:
        self.backbone, self.histories_of = backbone, histories_of
        self.token_of_node, self.depth_of_node = token_of_node, depth_of_node
        self.below: Below | None = None
        self.active: Tensor
        self.sees: Tensor

    def __call__(self, rows: Tensor, nodes: Tensor, parents: Tensor) -> Tensor:
        """Return hidden states of nodes, [F, D].

        Args:
            rows: Row of each node, ascending, [F].
            nodes: Trie nodes, [F].
            parents: Place of each node's parent among the nodes of the previous call; at first, its slot among those
                foreseen, -1 where it is the root, and anything where none was foreseen, [F].
        """
        active, row = torch.unique_consecutive(rows, return_inverse=True)
        if self.below is None:
            self.below = self.histories_of(active)
            sees = self.below.streams.real[row]
            if self.below.sees is not None:
                # Histories begin at column 0 and foreseen nodes end where thoughts do.
                of_last = self.below.sees[row, parents.clamp(min=0)]
                below_parents = torch.cat([sees[:, : sees.shape[1] - of_last.shape[1]], of_last], dim=1)
                sees = torch.where(parents[:, None] < 0, sees, below_parents)
        else:
            sees = self.sees[parents]
            if len(active) < len(self.active):
                self.below = self.below.rows(torch.searchsorted(self.active, active))
        self.active = active
        hidden, self.below, self.sees = self._read(self.below, row, nodes, sees)
        return hidden

    def _read(self, below: Below, row: Tensor, nodes: Tensor, sees: Tensor) -> tuple[Tensor, Below, Tensor]:
        """Return hidden states of nodes [F, D], what is below them, and what columns children see [F, columns].

        Args:
            below: What they are read below.
            row: Active row of each node, ascending, [F].
            nodes: Trie nodes, [F].
            sees: Columns that each node sees but for itself, [F, columns so far].
        """
        streams, n_rows = below.streams, len(below.first_position)
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
        positions = torch.zeros_like(tokens)
        positions[row, slot] = below.first_position[row] + self.depth_of_node[nodes] - 1
        grown = self.backbone.grow(streams, self.backbone.embed(tokens), positions, mask[:, None], real)
        hidden = grown.hidden[row, sees.shape[1] - n_slots + slot]
        sees = pad(sees, (0, grown.real.shape[1] - sees.shape[1]))
        return hidden, replace(below, streams=grown, sees=None), sees
