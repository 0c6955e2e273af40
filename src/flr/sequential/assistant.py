"""The assistant: small sequence networks that know items by their identity, as a second opinion on votes.

Factors vote by counts: who followed whom, one pair of items at a time. Which items together mean what, only training on
many targets tells, more of them than a language model sees in an affordable run. Networks of item embeddings see them
all in minutes, and what they say is multiplied into the votes, less what is popular anyway:

    p_votes(y) ~ p_factors(y)^(1 - alpha) p_assistant(y)^alpha popularity(y)^(-gamma)

p_assistant is the geometric mean of the networks' distributions, and alpha and gamma are settled on validation
(`flr.training.assisting`). The product keeps what all find likely; a sum, which keeps what any does, ranked worse.

Source: the text-free assistant of D3 (Bao et al. 2024), which does so to every token of a beam, and logit adjustment
(Menon et al. 2021); over votes it is ours.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from flr.blocks import by_block, whole_blocks
from flr.config import AssistantConfig
from flr.sequential.networks import GRU4Rec, SASRec, SequenceNetwork

#: No vote goes below: a product would silence what nobody has counted yet.
LEAST: Final = 1e-12


@dataclass(frozen=True)
class Advice:
    """What an assistant says.

    Attributes:
        log_probs: log p_assistant of all items up to a constant, float32, [B, N].
        log_popularity: Of all items, [N].
        weight, discount: alpha and gamma of each history, 0 where it knows nothing of it, [B].
    """

    log_probs: Tensor
    log_popularity: Tensor
    weight: Tensor
    discount: Tensor

    def on(self, probs: Tensor) -> Tensor:
        """Return votes after this second opinion, each row a distribution, [B, N]."""
        return self.logits_on(probs.clamp(min=LEAST).log()).softmax(-1)

    def logits_on(self, log_votes: Tensor) -> Tensor:
        """Return the logarithm of the product, not normalised, [B, N]."""
        alpha, gamma = self.weight[:, None], self.discount[:, None]
        return (1 - alpha) * log_votes + alpha * self.log_probs - gamma * self.log_popularity


class SequenceAssistant(nn.Module):
    """Trained sequence networks, and how much they have to say.

    Args:
        networks: At least one, trained; their weights are left alone from now on.

    Attributes:
        weight, discount: alpha and gamma, buffers.
        log_popularity: Logarithm of the share that each item has of what was taken, [N], a buffer.
    """

    weight: Tensor
    discount: Tensor
    log_popularity: Tensor

    def __init__(self, networks: Sequence[SequenceNetwork]) -> None:
        super().__init__()
        self.networks = cast("Sequence[SequenceNetwork]", nn.ModuleList(networks))
        self.n_items = networks[0].n_items
        self.requires_grad_(requires_grad=False).eval()
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("discount", torch.zeros(()))
        self.register_buffer("log_popularity", torch.zeros(self.n_items))

    def forward(self, items: Tensor) -> Advice:
        """Return what they say to each history: the same to the bit in any company.

        Args:
            items: Items of each history from the oldest on, at most the window, -1 after the last, [B, W]; those that
                the networks do not know are left out.
        """
        known = (items >= 0) & (items < self.n_items)
        counted, length = known.cumsum(1), max(1, items.shape[1])
        padded = items.new_full((len(items), length + 1), self.n_items)
        padded = padded.scatter_(1, torch.where(known, counted - 1, length), items)[:, :length]
        n_known = known.sum(1)
        ends = (torch.arange(len(items), device=items.device), (n_known - 1).clamp(min=0))
        opinions = (by_block(network.logits, network(padded)[ends]).float() for network in self.networks)
        log_probs = functools.reduce(torch.add, (logits.log_softmax(-1) for logits in opinions)) / len(self.networks)
        is_known = n_known > 0
        return Advice(log_probs, self.log_popularity, self.weight * is_known, self.discount * is_known)


def build_assistant(config: AssistantConfig, n_items: int, window: int) -> SequenceAssistant | None:
    """Return an untrained assistant that nobody listens to yet, or None where the config asks for none.

    Weights come from torch's global generator.

    Args:
        config: Its settings.
        n_items: Items it knows, N.
        window: Most items of a history that it reads.
    """
    if not config.networks:
        return None
    common: dict[str, Any] = {"width": config.width, "dropout": config.dropout}
    attention = {"n_layers": config.n_layers, "n_heads": config.n_heads, "window": whole_blocks(window)}
    networks = [
        GRU4Rec(n_items, **common) if name == "gru4rec" else SASRec(n_items, **common, **attention)
        for name in config.networks
    ]
    return SequenceAssistant(networks)
