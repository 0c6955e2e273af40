"""Which trie nodes a search will probably read, guessed from what else is known of items before titles are written.

A search reads the trie level by level, one forward each, and each costs about as much as a block of tokens. Where votes
decide what is best, it reads the nodes above the best items by votes, and beginnings that many titles share, which can
be likely enough to hide a title that nobody voted for. So these are read along with the thought, in slots that would
have been padding: what was guessed needs no forward of its own, what was not is read as before. On MovieLens-100K half
of the histories of ten films need no further forward at all, a third without the shared beginnings.

A guess depends on its own row alone, so that answers stay the same to the bit in any company (`flr.blocks`).

Source: METHOD 8 (ours).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from flr.blocks import BLOCK
from flr.records import IntArray, TokenTrie

#: One of so many parts of the slots is for the nodes above the best leaves, the others for beginnings; other parts do
#: about as well, none of either does not (docs/log.md, 2026-11-27).
_PARTS = 3


@dataclass(frozen=True)
class GuessedNodes:
    """Nodes that are read along with a thought, parents before children.

    Attributes:
        nodes: Trie nodes, -1 where there are fewer, [B, S].
        tokens: Tokens on the edges into them, [B, S].
        depths: Tokens from the root, 1 at least, [B, S].
        sees: True where a node (rows) may look at another (columns): at those above it and at itself, [B, S, S].
    """

    nodes: Tensor
    tokens: Tensor
    depths: Tensor
    sees: Tensor


@dataclass(frozen=True)
class GuessTables:
    """What guessing looks up.

    Attributes:
        paths: The first needed nodes below the root on the way to each leaf, -1 after the last, [n_leaves, P].
        beginnings: The nodes that are first on some way, and -1 before them, where some leaf has none, [F].
        beginning_of_leaf: Which of `beginnings` is first on the way to each leaf, [n_leaves].
        parent, token, depth: Of each trie node, [n_nodes].
    """

    paths: Tensor
    beginnings: Tensor
    beginning_of_leaf: Tensor
    parent: Tensor
    token: Tensor
    depth: Tensor

    @staticmethod
    def of(above_leaves: tuple[IntArray, IntArray], trie: TokenTrie) -> GuessTables:
        """Build the tables.

        Args:
            above_leaves: Each (leaf, needed node above it), those of a leaf from below, [n] each.
            trie: The titles.
        """
        leaf, node = (of[above_leaves[1] > 0] for of in above_leaves)
        order = np.argsort(leaf, kind="stable")[::-1]  # all of a leaf together, from above
        leaf, node = leaf[order], node[order]
        counts = np.bincount(leaf, minlength=trie.n_leaves)
        begins = (counts[::-1].cumsum()[::-1] - counts)[leaf]
        place = np.arange(len(leaf)) - begins
        fits = place < BLOCK
        paths = np.full((trie.n_leaves, max(1, min(BLOCK, int(counts.max(initial=0))))), -1, dtype=np.int32)
        paths[leaf[fits], place[fits]] = node[fits]
        beginnings, beginning_of_leaf = np.unique(paths[:, 0], return_inverse=True)
        tables = (paths, beginnings, beginning_of_leaf, trie.parent, trie.token, trie.depth)
        return GuessTables(*map(torch.from_numpy, tables))

    def to(self, device: torch.device) -> GuessTables:
        return GuessTables(*(getattr(self, field.name).to(device) for field in fields(self)))

    def guess(self, of_leaves: Tensor, n_guesses: int) -> GuessedNodes:
        """Return the nodes above the best few leaves, the likeliest beginnings, and nodes above further leaves.

        Args:
            of_leaves: How good each leaf is thought to be, [B, n_leaves].
            n_guesses: Nodes that fit, S.
        """
        best = of_leaves.topk(min(n_guesses, of_leaves.shape[1]), dim=1).indices
        n_best = -(-n_guesses // _PARTS)
        ahead, behind = (paths.flatten(1).long() for paths in self.paths[best].tensor_split([n_best], dim=1))
        nodes = self._first(torch.cat([ahead, self._beginnings(of_leaves, n_guesses - n_best), behind], 1), n_guesses)
        known = nodes.clamp(min=0)
        above = (self.parent[known][..., None] == nodes[:, None, :]) & (nodes >= 0)[..., None]
        ways = torch.eye(n_guesses, device=nodes.device) + above
        for _ in range((self.paths.shape[1] - 1).bit_length()):  # twice as far up each time
            ways = ways @ ways
        tokens, depths = self.token[known].clamp(min=0).long(), self.depth[known].clamp(min=1).long()
        return GuessedNodes(nodes, tokens, depths, ways > 0)

    def _beginnings(self, of_leaves: Tensor, n: int) -> Tensor:
        """Return the n beginnings whose leaves have the largest sums, and -1 in the end, [B, min(n, F)]."""
        sums = of_leaves.new_zeros(len(of_leaves), len(self.beginnings)).index_add_(
            1, self.beginning_of_leaf, of_leaves
        )
        sums[:, self.beginnings < 0] = -1
        return self.beginnings[sums.topk(min(n, len(self.beginnings)), dim=1).indices].long()

    @staticmethod
    def _first(nodes: Tensor, n: int) -> Tensor:
        """Return the first n distinct nodes of each row, in order, -1 after the last, [B, m] -> [B, n]."""
        earlier = torch.ones(nodes.shape[1], nodes.shape[1], dtype=torch.bool, device=nodes.device).tril(-1)
        is_again = ((nodes[:, :, None] == nodes[:, None, :]) & earlier).any(2)
        is_new = (nodes >= 0) & ~is_again
        place = torch.where(is_new, is_new.cumsum(1) - 1, n).clamp(max=n)
        return nodes.new_full((len(nodes), n + 1), -1).scatter_(1, place, torch.where(is_new, nodes, -1))[:, :n]
