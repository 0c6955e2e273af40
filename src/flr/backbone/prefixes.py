"""Read beginnings of titles below encoded histories, one level of the trie at a time, each token once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flr.backbone.streams import Backbone, EncodedStreams

#: Rows -> their encoded histories, thoughts included, and the position of the first token of a title.
HistoriesOf = Callable[[Tensor], tuple[EncodedStreams, Tensor]]


class PrefixReader:
    """Reads trie nodes level by level; what was read above stays in the cache.

    Only rows that still have nodes are carried along, so a level costs as much as it has nodes.

    Args:
        backbone: Reads the tokens.
        histories_of: Called once, with the rows that have nodes on the first level.
        token_of_node: Token on the edge into each trie node, [n_nodes].
    """

    def __init__(self, backbone: Backbone, histories_of: HistoriesOf, token_of_node: Tensor) -> None:
        self.backbone, self.histories_of, self.token_of_node = backbone, histories_of, token_of_node
        self.depth = 0
        self.active: Tensor
        self.streams: EncodedStreams
        self.first_position: Tensor
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
            streams, self.first_position = self.histories_of(active)
            sees = streams.real[row]
        else:
            streams, sees = self.streams, self.sees[parents]
            if len(active) < len(self.active):
                kept = torch.searchsorted(self.active, active)
                streams, self.first_position = streams.rows(kept), self.first_position[kept]
        counts = torch.bincount(row, minlength=len(active))
        slot = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[row]
        n_slots = self.backbone.whole_slots(int(counts.max()), len(active))
        real = torch.arange(n_slots, device=rows.device) < counts[:, None]
        itself = torch.nn.functional.one_hot(slot, n_slots).bool()
        sees = torch.cat([sees, itself], dim=1)
        # Padding looks at everything there is; nobody looks at padding.
        mask = torch.ones(len(active), n_slots, sees.shape[1], dtype=torch.bool, device=rows.device)
        mask[row, slot] = sees
        tokens = torch.zeros(real.shape, dtype=torch.long, device=rows.device)
        tokens[row, slot] = self.token_of_node[nodes]
        positions = (self.first_position + self.depth)[:, None].expand_as(tokens)
        grown = self.backbone.grow(streams, self.backbone.embed(tokens), positions, mask[:, None], real)
        n_before = sees.shape[1] - n_slots
        self.streams, self.active, self.depth = grown, active, self.depth + 1
        self.sees = torch.nn.functional.pad(sees, (0, grown.real.shape[1] - sees.shape[1]))
        return grown.hidden[row, n_before + slot]
