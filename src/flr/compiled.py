"""A catalogue made ready for a model: titles as tokens, the trie, and the tables that score it.

Immutable, and apart from the weights: a live catalogue is changed by building another one and swapping it in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flr.catalogue.likeness import Likeness, liken
from flr.catalogue.trie import ancestors_of, build_trie, choice_paths, preorder
from flr.records import BoolArray, Catalogue, FloatArray, IntArray, TokenTrie, TriePaths
from flr.scoring.exact import TreeSlice, item_log_probs, tree_slices
from flr.scoring.guessing import GuessedNodes, GuessTables
from flr.scoring.likelihood import ChildTable, LeafSums, child_table, counted_nodes, edge_numbers, leaf_sums
from flr.scoring.pruned import sole_leaves
from flr.text.packing import Evidence, Packer
from flr.text.template import PromptTemplate
from flr.text.tokenizer import TitleTokenizer

#: Trie nodes per tree-masked forward: attention among them grows with the square.
_NODES_PER_SLICE = 512


@dataclass(frozen=True)
class CompiledCatalogue:
    """Everything about a catalogue that training and scoring ask for.

    Attributes:
        catalogue: Items and titles.
        template: Writes histories as token streams.
        trie, paths: The titles as a trie, and the choices on the way to each.
        table: Children by size class, on the model's device.
        sums: How edges add up to titles.
        slices: The needed nodes below the root.
        sole_leaf: Leaf that each node leads to without a further choice, -1 at needed nodes, [n_nodes].
        leaf: Leaf of each item, any leaf for an item that has none, [N].
        n_sharing: Items of each leaf, retired ones left out, [n_leaves].
        above_leaves: Each (leaf, needed node above it), [n] each.
        guesses: Guesses which nodes a search will read.
        retired: Indices of retired items; None where there are none.
        lenders: Known items that each new one is like, and their weights, [M, n] each (`flr.catalogue.likeness`); None
            where no votes are lent.
    """

    catalogue: Catalogue
    template: PromptTemplate
    trie: TokenTrie
    paths: TriePaths
    table: ChildTable
    sums: LeafSums
    slices: tuple[TreeSlice, ...]
    sole_leaf: Tensor
    leaf: Tensor
    n_sharing: Tensor
    above_leaves: tuple[Tensor, Tensor]
    guesses: GuessTables
    retired: Tensor | None = None
    lenders: tuple[Tensor, Tensor] | None = None

    def by_item(self, leaf_log_probs: Tensor) -> Tensor:
        """Return log-probabilities of items from those of titles, -inf at retired items, [B, n_leaves] -> [B, N]."""
        return item_log_probs(leaf_log_probs, self.leaf, self.n_sharing, self.retired)

    def best_below(self, of_items: Tensor) -> Tensor:
        """Return the largest value of the items below each needed trie node, 0 elsewhere, [B, N] -> [B, n_nodes].

        Args:
            of_items: Values of at least 0, and 0 for retired items.
        """
        leaves, nodes = self.above_leaves
        of_leaves = self._best_of_leaves(of_items)
        best = of_items.new_zeros(len(of_items), len(self.sole_leaf))
        return best.scatter_reduce_(1, nodes.expand(len(best), -1), of_leaves[:, leaves], "amax")

    @property
    def depth_of_node(self) -> Tensor:
        """Depth of each trie node, 1 below the root, [n_nodes] int32."""
        return self.guesses.depth

    def guess(self, of_items: Tensor, n_guesses: int) -> GuessedNodes:
        """Return nodes that a search for the best items will probably read, at most `n_guesses`; as `best_below`."""
        return self.guesses.guess(self._best_of_leaves(of_items), n_guesses)

    def _best_of_leaves(self, of_items: Tensor) -> Tensor:
        of_leaves = of_items.new_zeros(len(of_items), self.trie.n_leaves)
        return of_leaves.scatter_reduce_(1, self.leaf.expand_as(of_items), of_items, "amax")

    @property
    def n_needed_nodes(self) -> int:
        """Trie nodes that scoring the whole catalogue evaluates, the root (the thought itself) included."""
        return 1 + len({int(node) for part in self.slices for node in part.nodes})

    def packer(self, n_thoughts: int, evidence: tuple[Evidence, FloatArray] | None = None) -> Packer:
        """Return the builder of training batches for this catalogue; see `Packer`."""
        return Packer(self.template, self.paths, node_depth=self.trie.depth, n_thoughts=n_thoughts, evidence=evidence)

    def to(self, device: torch.device) -> CompiledCatalogue:
        """Return the same catalogue with its tables on another device."""
        return CompiledCatalogue(
            self.catalogue,
            self.template,
            self.trie,
            self.paths,
            table=self.table.to(device),
            sums=self.sums.to(device),
            slices=tuple(part.to(device) for part in self.slices),
            sole_leaf=self.sole_leaf.to(device),
            leaf=self.leaf.to(device),
            n_sharing=self.n_sharing.to(device),
            above_leaves=(self.above_leaves[0].to(device), self.above_leaves[1].to(device)),
            guesses=self.guesses.to(device),
            retired=None if self.retired is None else self.retired.to(device),
            lenders=None if self.lenders is None else (self.lenders[0].to(device), self.lenders[1].to(device)),
        )


def compile_catalogue(
    catalogue: Catalogue,
    tokenizer: TitleTokenizer,
    *,
    likelihood: str,
    max_title_tokens: int,
    lends: BoolArray | None = None,
    before: CompiledCatalogue | None = None,
) -> CompiledCatalogue:
    """Return a catalogue made ready for models that share a tokenizer and a likelihood.

    Args:
        catalogue: Items and titles.
        tokenizer: Turns titles into tokens.
        likelihood: ``"catalogue"`` or ``"vocabulary"``, which decides what counts as a choice.
        max_title_tokens: Longer titles are cut where that keeps them distinct.
        lends: True at items of the memory that somebody has taken, which lend new ones their votes, [known]; None for a
            model without a memory.
        before: The same with other items; titles that it has are not tokenised again, which is most of the work.
    """
    names = list(catalogue.leaf_titles)
    if before is None:
        titles = tokenizer.encode_titles(names, max_title_tokens)
    else:
        known = list(before.catalogue.leaf_titles)
        titles = tokenizer.encode_titles_again(names, max_title_tokens, known=known, tokens=before.template.titles)
    n_leaves, live, retired = catalogue.n_leaves, catalogue.leaf, None
    if catalogue.retired is not None:
        live, retired = catalogue.leaf[~catalogue.retired], torch.from_numpy(np.flatnonzero(catalogue.retired))
    trie = build_trie(titles.first(n_leaves))
    paths = choice_paths(trie, only_branching=likelihood == "catalogue")
    counted = counted_nodes(trie, likelihood=likelihood)
    needed = ancestors_of(trie, counted)
    above_leaves = _above_leaves(trie, needed)
    return CompiledCatalogue(
        catalogue=catalogue,
        template=PromptTemplate(titles, catalogue.leaf, tokenizer.preamble_ids, tokenizer.suffix_ids),
        trie=trie,
        paths=paths,
        table=child_table(trie, likelihood=likelihood),
        sums=leaf_sums(paths, edge_numbers(trie, likelihood=likelihood)),
        slices=tuple(tree_slices(trie, needed, preorder(trie), _NODES_PER_SLICE)),
        sole_leaf=torch.from_numpy(sole_leaves(trie, needed)),
        leaf=torch.from_numpy(np.where(catalogue.leaf < n_leaves, catalogue.leaf, 0).astype(np.int64)),
        n_sharing=torch.from_numpy(np.bincount(live, minlength=n_leaves)),
        above_leaves=(torch.from_numpy(above_leaves[0]), torch.from_numpy(above_leaves[1])),
        guesses=GuessTables.of(above_leaves, trie),
        retired=retired,
        lenders=None if lends is None else _lenders(catalogue, lends, before),
    )


def _lenders(catalogue: Catalogue, lends: BoolArray, before: CompiledCatalogue | None) -> tuple[Tensor, Tensor] | None:
    """Return who lends votes to new items; of those that were there before, as before, if none has changed."""
    known = None
    if before is not None and before.lenders is not None and _goes_on(before.catalogue, catalogue):
        items, weights = before.lenders
        known = Likeness(items.cpu().numpy(), weights.cpu().numpy())
    found = liken(catalogue, lends, known)
    return None if found is None else (torch.from_numpy(found.items), torch.from_numpy(found.weights))


def _goes_on(before: Catalogue, after: Catalogue) -> bool:
    """Return whether all items of before have kept their titles and attributes."""
    n = before.n_items
    if not np.array_equal(before.titles, after.titles[:n]):
        return False
    if before.attributes is None or after.attributes is None:
        return before.attributes is after.attributes
    return before.attributes.equals(after.attributes[:n])


def _above_leaves(trie: TokenTrie, needed: BoolArray) -> tuple[IntArray, IntArray]:
    """Return every (leaf, needed node above it), those of a leaf from below."""
    leaf, node = np.arange(trie.n_leaves), trie.node_of_leaf.astype(np.int64)
    leaves, nodes = [], []
    while len(node):
        node = trie.parent[node].astype(np.int64)
        leaf, node = leaf[node >= 0], node[node >= 0]
        leaves.append(leaf[needed[node]])
        nodes.append(node[needed[node]])
    return np.concatenate(leaves), np.concatenate(nodes)
