"""The assistant: a small sequence network that knows items by their identity, as a second opinion on votes.

Factors vote by counts: who followed whom, one pair of items at a time. Which items together mean what, only training on
many targets tells, more of them than a language model sees in an affordable run. A network of item embeddings sees them
all in minutes, and what it says is multiplied into the votes, less what is popular anyway:

    p_votes(y) ~ p_factors(y)^(1 - alpha) p_assistant(y)^alpha popularity(y)^(-gamma)

with alpha and gamma settled on validation (`flr.training.assisting`). The product keeps what both find likely; a sum,
which keeps what either does, ranked worse.

Source: the text-free assistant of D3 (Bao et al. 2024), which does so to every token of a beam, and logit adjustment
(Menon et al. 2021); over votes it is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from flr.blocks import by_block, whole_blocks
from flr.config import AssistantConfig
from flr.sequential.networks import SASRec, SequenceNetwork

#: No vote goes below: a product would silence what nobody has counted yet.
LEAST: Final = 1e-12


@dataclass(frozen=True)
class Advice:
    """What an assistant says.

    Attributes:
        log_probs: log p_assistant of all items, float32, [B, N].
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
    """A trained sequence network, and how much it has to say.

    Args:
        network: Trained; its weights are left alone from now on.
        window: Most items of a history that it reads.

    Attributes:
        weight, discount: alpha and gamma, buffers.
        log_popularity: Logarithm of the share that each item has of what was taken, [N], a buffer.
    """

    weight: Tensor
    discount: Tensor
    log_popularity: Tensor

    def __init__(self, network: SequenceNetwork, window: int) -> None:
        super().__init__()
        self.network, self.window = network.requires_grad_(requires_grad=False).eval(), window
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("discount", torch.zeros(()))
        self.register_buffer("log_popularity", torch.zeros(network.n_items))

    def forward(self, items: Tensor) -> Advice:
        """Return what it says to each history: the same to the bit in any company.

        Args:
            items: Items of each history from the oldest on, -1 after the last, [B, W]; those that the network does not
                know are left out.
        """
        known = (items >= 0) & (items < self.network.n_items)
        order = (~known).to(torch.uint8).argsort(dim=1, stable=True)  # unknown ones go to the end
        n_known = known.sum(1)
        read = items.gather(1, order)[:, : self.window]
        length = whole_blocks(self.window)
        padded = items.new_full((len(items), length), self.network.n_items)
        padded[:, : read.shape[1]] = read
        columns = torch.arange(length, device=items.device)
        padded = padded.masked_fill(columns >= n_known[:, None], self.network.n_items)
        states = self.network(padded)
        ends = (n_known - 1).clamp(min=0)
        last = states[torch.arange(len(items), device=items.device), ends]
        log_probs = by_block(self.network.logits, last).float().log_softmax(-1)
        is_known = n_known > 0
        return Advice(log_probs, self.log_popularity, self.weight * is_known, self.discount * is_known)


def build_assistant(config: AssistantConfig, n_items: int, window: int) -> SequenceAssistant | None:
    """Return an untrained assistant that nobody listens to yet, or None where the config asks for none.

    Args:
        config: Its settings.
        n_items: Items it knows, N.
        window: Most items of a history that it reads.
    """
    if config.kind == "none":
        return None
    network = SASRec(
        n_items,
        width=config.width,
        dropout=config.dropout,
        n_layers=config.n_layers,
        n_heads=config.n_heads,
        window=whole_blocks(window),
    )
    return SequenceAssistant(network, window)
