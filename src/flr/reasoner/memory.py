"""Item memory: every factor votes for what followed the items that it reads, and a learned trust weighs the votes.

Written titles alone make a small model learn by heart who followed whom, one gradient step at a time. Here these counts
are looked up, and what is learnt is where to look: factor k's attention over the history, summed per item, decides
whose followers it votes for, and its gate decides how much the vote counts. So what a factor reads has consequences
that can be seen, item by item.

    p_k(y) = sum_x a_k(x) sum_q rho_kq p_q(y | x)          votes of a factor; a_k of the last refinement step
    p(y)   = (1 - lambda) p_title(y) + lambda sum_k g_k p_k(y)      lambda = sigmoid(w . z^R + b)

The relations q are those of `flr.data.transitions`; rho is given, not learnt: the likelihood, even of held-out targets,
prefers relations that rank worse. Attention outside titles votes for what is popular.

Source: ours, docs/equations.md ("votes", "mixture"): a mixture over factors of next-item distributions.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from flr.blocks import summed_in_parts
from flr.reasoner.factors import LOGIT_GAIN
from flr.records import Thought
from flr.transitions import Transitions

#: Weight of a relation that has none.
_NOTHING: Final = 1e-6


@dataclass(frozen=True)
class Votes:
    """What the memory says, and how far it is trusted.

    Attributes:
        log_trust, log_distrust: log lambda and log (1 - lambda), [...].
        probs: Probabilities of what was asked for: of targets [...], or of all items [..., N].
    """

    log_trust: Tensor
    log_distrust: Tensor
    probs: Tensor

    def among(self, n_items: int, retired: Tensor | None = None, lenders: tuple[Tensor, Tensor] | None = None) -> Votes:
        """Return votes for a catalogue that has changed: new items borrow theirs, votes for retired ones are void.

        Args:
            n_items: Items of the catalogue, at least as many as there were.
            retired: Indices of those that are retired.
            lenders: Items that each new item is like, and their weights, [M, n] each
                (`flr.catalogue.likeness`); None gives new items no votes.
        """
        missing = n_items - self.probs.shape[-1]
        if retired is None and not missing:
            return self
        if not missing:
            probs = self.probs
        elif lenders is None:
            probs = nn.functional.pad(self.probs, (0, missing))
        else:
            columns = zip(lenders[0].unbind(1), lenders[1].unbind(1), strict=True)
            lent = functools.reduce(torch.add, (self.probs[..., items] * weights for items, weights in columns))
            probs = torch.cat([self.probs, lent], -1)
        if retired is not None:
            probs = probs.index_fill(-1, retired, 0)
        left = summed_in_parts(probs)
        silent = left[..., 0] <= 0
        trust = self.log_trust.masked_fill(silent, -torch.inf)
        return Votes(trust, self.log_distrust.masked_fill(silent, 0), probs / left.clamp(min=1e-30))

    def detached(self) -> Votes:
        """Return the same votes, through which only the trust learns."""
        return replace(self, probs=self.probs.detach())

    def mix(self, log_probs: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return the log of the mixture with written titles, of the same shape.

        Args:
            log_probs: log p_title, for the votes' targets [...] or for all items [n, N].
            rows: Whose votes to mix with each row of `log_probs`, [n]; None takes them in order.
        """
        votes = self if rows is None else Votes(self.log_trust[rows], self.log_distrust[rows], self.probs[rows])
        trust, distrust = votes.log_trust, votes.log_distrust
        if votes.probs.dim() > trust.dim():
            trust, distrust = trust[..., None], distrust[..., None]
        # Not `logaddexp`, which rounds otherwise at the end of a tensor than within.
        return torch.logsumexp(torch.stack([distrust + log_probs, trust + votes.probs.log()]), dim=0)


class ItemMemory(nn.Module):
    """Turns what factors attend to into votes for items.

    Args:
        transitions: The counts.
        width: Hidden width D.
        relation_weights: rho, one row per factor, [K, Q], each sums to 1.

    Attributes:
        relation: Logits of rho, divided by `LOGIT_GAIN`; the last is that of popularity, which has nothing, [K, Q + 1].
        trust: w and b of lambda.
    """

    relation: Tensor
    starts: Tensor
    followers: Tensor
    shares: Tensor
    back_off: Tensor
    popularity: Tensor

    def __init__(self, transitions: Transitions, width: int, relation_weights: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.transitions = transitions
        rho = torch.tensor([[*row, 0.0] for row in relation_weights]).clamp(min=_NOTHING)
        self.register_buffer("relation", rho.log() / LOGIT_GAIN)
        self.trust = nn.Linear(width, 1)
        nn.init.zeros_(self.trust.weight)
        nn.init.zeros_(self.trust.bias)
        kept = np.zeros((transitions.n_items, transitions.n_relations))
        np.add.at(kept, transitions.sources, transitions.shares)
        tables = {
            "starts": transitions.starts,
            "followers": transitions.followers,
            "shares": transitions.shares,
            "back_off": (1 - kept).astype(np.float32),
            "popularity": transitions.popularity.astype(np.float32),
        }
        for name, table in tables.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(table)), persistent=False)

    def on_targets(self, thought: Thought, evidence: Tensor, places: Tensor, popularity: Tensor) -> Votes:
        """Return the votes for one item per target, [B, P].

        Args:
            thought: What the factors attend to.
            evidence: p_q(target | item) for the items of each target's segment, [B, P, W, Q].
            places: Which item of its segment each stream token belongs to, -1 outside titles, [B, L].
            popularity: p(target) by popularity, [B, P].
        """
        read = _by_item(thought.attentions[-1], places, evidence.shape[2])
        relation = self.relations()
        gates = thought.gates[-1].float()
        weights = torch.einsum("bpk,bpkw,km->bpwm", gates, read, relation)
        elsewhere = (gates.sum(-1) - weights.sum((-1, -2))).clamp(min=0)
        probs = (weights * evidence).sum((-1, -2)) + elsewhere * popularity
        return Votes(*self._trust(thought), probs.clamp(min=1e-12))

    def on_items(self, thought: Thought, items: Tensor, places: Tensor) -> Votes:
        """Return the votes of one target per row for all items, [B, N].

        Args:
            thought: What the factors attend to, with P = 1.
            items: Items of each history from the oldest on, -1 after the last, [B, W].
            places: Which item of its history each stream token belongs to, -1 outside titles, [B, L].
        """
        read = _by_item_of_one(thought.attentions[-1][:, 0].float(), places, items.shape[1])
        gates = thought.gates[-1][:, 0].float()
        total = _summed(gates)
        gates = gates / total.clamp(min=1e-12)[:, None]  # factors may be turned off or up; votes stay a distribution
        relation = self.relations()
        by_factor = gates[..., None, None] * read[..., None] * relation[:, None]
        weights = functools.reduce(torch.add, by_factor.unbind(1))
        rows, columns = torch.nonzero((items >= 0) & (items < len(self.popularity)), as_tuple=True)
        found = items[rows, columns]
        weights = weights[rows, columns]
        probs = self._followers(rows, found, weights, len(items))
        kept = _summed(weights * (1 - self.back_off[found]))
        left = 1 - weights.new_zeros(len(items)).index_add_(0, rows, kept)
        probs += left.clamp(min=0)[:, None] * self.popularity
        trust, distrust = (value[:, 0] for value in self._trust(thought))
        silent = total <= 0
        return Votes(trust.masked_fill(silent, -torch.inf), distrust.masked_fill(silent, 0.0), probs)

    def of_each(self, thought: Thought, items: Tensor, places: Tensor) -> Tensor:
        """Return what each factor alone votes for, from what it reads in the company of the others, [B, K, N].

        Arguments as for `on_items`.
        """
        n_factors = thought.gates.shape[-1]
        one_each = torch.eye(n_factors, device=items.device).view(n_factors, 1, 1, 1, -1)
        alone = (replace(thought, gates=one.expand_as(thought.gates)) for one in one_each)
        return torch.stack([self.on_items(one, items, places).probs for one in alone], 1)

    def _followers(self, rows: Tensor, sources: Tensor, weights: Tensor, n_rows: int) -> Tensor:
        """Return the sum of weighted follower shares, [n_rows, N]; one entry of the others per item read."""
        starts, n = self.starts[sources], self.starts[sources + 1] - self.starts[sources]
        owner = torch.repeat_interleave(torch.arange(len(sources), device=sources.device), n)
        offset = torch.arange(len(owner), device=owner.device) - (n.cumsum(0) - n)[owner]
        entry = starts[owner] + offset
        votes = _summed(self.shares.index_select(0, entry) * weights.index_select(0, owner))
        n_items = len(self.popularity)
        flat = votes.new_zeros(n_rows * n_items)
        return flat.index_add_(0, rows[owner] * n_items + self.followers[entry], votes).view(n_rows, n_items)

    def relations(self) -> Tensor:
        """Return rho without the share of popularity, which is what they lack of 1, [K, Q]."""
        return (LOGIT_GAIN * self.relation.float()).softmax(-1)[:, :-1]

    def _trust(self, thought: Thought) -> tuple[Tensor, Tensor]:
        # Not a product with the one column of weights: past the first block, its rows depend on how many there are.
        logit = ((thought.states[:, :, -1].detach() * self.trust.weight[0]).sum(-1) + self.trust.bias).float()
        return nn.functional.logsigmoid(logit), nn.functional.logsigmoid(-logit)


def items_in_order(items: Tensor, places: Tensor) -> Tensor:
    """Return the items of each history from the oldest on, -1 after the last, [B, L] -> [B, W].

    Args:
        items: Item of each stream token, -1 outside titles, [B, L].
        places: Which item of its history each stream token belongs to, -1 outside titles, [B, L].
    """
    n_places = int(places.max()) + 1
    of_place = items.new_full((len(items), n_places + 1), -1)
    return of_place.scatter(1, places % (n_places + 1), items)[:, :n_places]  # -1 goes to the end, and away


def _summed(values: Tensor) -> Tensor:
    """Return the sums over the last, short dimension, added in one order in whatever company."""
    return functools.reduce(torch.add, values.unbind(-1))


def _by_item_of_one(attention: Tensor, places: Tensor, n_places: int) -> Tensor:
    """Return what `_by_item` does for one target per row, token by token: the same to the bit in any company.

    [B, K, L] -> [B, K, W].
    """
    of_token = (places % (n_places + 1))[:, None].expand_as(attention)
    read = attention.new_zeros(*attention.shape[:2], n_places + 1)
    return read.scatter_add(2, of_token, attention)[..., :n_places]


def _by_item(attention: Tensor, places: Tensor, n_places: int) -> Tensor:
    """Return attention summed over the tokens of each item, [B, P, K, L] -> [B, P, K, W] float32.

    Tokens of other segments of a row have no attention, so that places may repeat from segment to segment.
    """
    member = nn.functional.one_hot(places + 1, n_places + 1)[..., 1:].float()
    return torch.einsum("bpkl,blw->bpkw", attention.float(), member)
