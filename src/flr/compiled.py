"""A catalogue made ready for a model: titles as tokens, the trie, and the tables that score it.

Immutable, and apart from the weights: a live catalogue is changed by building another one and swapping it in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flr.catalogue.trie import ancestors_of, build_trie, choice_paths, preorder
from flr.records import Catalogue, TokenTrie, TriePaths
from flr.scoring.exact import TreeSlice, item_log_probs, tree_slices
from flr.scoring.likelihood import ChildTable, LeafSums, child_table, counted_nodes, edge_numbers, leaf_sums
from flr.scoring.pruned import sole_leaves
from flr.text.packing import Packer
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
        retired: Indices of retired items; None where there are none.
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
    retired: Tensor | None = None

    def by_item(self, leaf_log_probs: Tensor) -> Tensor:
        """Return log-probabilities of items from those of titles, -inf at retired items, [B, n_leaves] -> [B, N]."""
        return item_log_probs(leaf_log_probs, self.leaf, self.n_sharing, self.retired)

    @property
    def n_needed_nodes(self) -> int:
        """Trie nodes that scoring the whole catalogue evaluates, the root (the thought itself) included."""
        return 1 + len({int(node) for part in self.slices for node in part.nodes})

    def packer(self, n_thoughts: int) -> Packer:
        """Return the builder of training batches for this catalogue."""
        return Packer(self.template, self.paths, node_depth=self.trie.depth, n_thoughts=n_thoughts)

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
            retired=None if self.retired is None else self.retired.to(device),
        )


def compile_catalogue(
    catalogue: Catalogue,
    tokenizer: TitleTokenizer,
    *,
    likelihood: str,
    max_title_tokens: int,
    before: CompiledCatalogue | None = None,
) -> CompiledCatalogue:
    """Return a catalogue made ready for models that share a tokenizer and a likelihood.

    Args:
        catalogue: Items and titles.
        tokenizer: Turns titles into tokens.
        likelihood: ``"catalogue"`` or ``"vocabulary"``, which decides what counts as a choice.
        max_title_tokens: Longer titles are cut where that keeps them distinct.
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
        retired=retired,
    )
