"""Networks over item sequences: identities in, a state at every position out, scored against the whole catalogue.

Written here on torch's own layers: RecBole 1.2.1 sets ``np.float_``, which NumPy 2 no longer has, and RecTools asks for
NumPy below 2 on Python 3.11, so neither fits beside what the rest of the package needs. On the same rows of CDs SASRec
reaches what RecBole's does, and GRU4Rec more (docs/log.md).

Where they depart from their papers: all are trained by the softmax over all items, or in a large catalogue by an
estimate of it (`flr.sequential.fitting`), instead of sampled negatives one by one; none
has user embeddings, so that people never seen in training can be served; all tie output to input embeddings.

Those that advise a model (`flr.sequential.assistant`) say the same to the last bit in any company once trained, see
`flr.blocks`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from flr.blocks import BLOCK

#: Standard deviation of new item embeddings.
_INIT_STD: Final = 0.02
#: Width of a transformer's feed-forward layers, relative to its states.
FEED_FORWARD: Final = 2


class SequenceNetwork(nn.Module, ABC):
    """Base of all: embeddings of N items, of padding (index N) and of the masked place (index N + 1).

    Args:
        n_items: Size of the catalogue N.
        width: Width D of embeddings and states.
        dropout: Dropout on the input embeddings, and within where a network says so.

    Attributes:
        is_cloze: Whether a state predicts the item that is masked at its own place, instead of the item after it.
    """

    is_cloze: ClassVar[bool] = False

    def __init__(self, n_items: int, *, width: int, dropout: float) -> None:
        super().__init__()
        self.n_items = n_items
        self.items = nn.Embedding(n_items + 2, width, padding_idx=n_items)
        self.bias = nn.Parameter(torch.zeros(n_items))
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            self.items.weight.normal_(std=_INIT_STD)[n_items] = 0

    @abstractmethod
    def forward(self, items: Tensor) -> Tensor:
        """Return the state at every position, [B, T, D], from items [B, T] that are padded at the right."""

    def output(self, items: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return what scores all items, or some: a row for each, [N, D], and their biases, [N], None for none."""
        if items is None:
            return self.items.weight[: self.n_items], self.bias
        return self.items(items), self.bias[items]

    def logits(self, states: Tensor, items: Tensor | None = None) -> Tensor:
        """Return the scores of all items, or of some, for states [S, D], [S, N]."""
        return functional.linear(states, *self.output(items))


class SequenceTransformer(SequenceNetwork):
    """Base of the transformers: item and position embeddings under pre-norm layers.

    Args:
        window: Most positions of a sequence.
        n_layers, n_heads: Layers, and heads of each.
    """

    def __init__(self, n_items: int, *, width: int, dropout: float, n_layers: int, n_heads: int, window: int) -> None:
        super().__init__(n_items, width=width, dropout=dropout)
        self.positions = nn.Parameter(torch.empty(window, width).normal_(std=_INIT_STD))
        layer = nn.TransformerEncoderLayer(
            width, n_heads, FEED_FORWARD * width, dropout, functional.gelu, batch_first=True, norm_first=True
        )
        # Dropping attention weights too takes the fast kernel away: a third of the time, for a third kind of dropout.
        layer.self_attn.dropout = 0.0
        self.encoder = nn.TransformerEncoder(layer, n_layers, nn.LayerNorm(width), enable_nested_tensor=False)

    def embed(self, items: Tensor) -> Tensor:
        embedded: Tensor = self.items(items) * self.items.embedding_dim**0.5 + self.positions[: items.shape[1]]
        dropped: Tensor = self.dropout(embedded)
        return dropped


class SASRec(SequenceTransformer):
    """Self-attention to earlier items (Kang and McAuley 2018), in the strong form: cross-entropy over all items."""

    def forward(self, items: Tensor) -> Tensor:
        n = items.shape[1]
        if self.training:
            later = torch.ones(n, n, dtype=torch.bool, device=items.device).triu(1)
            states: Tensor = self.encoder(self.embed(items), mask=later)
            return states
        # Attention over part of a block would have other last bits than over all of it.
        n_more = min(-n % BLOCK, len(self.positions) - n)
        states = self.embed(functional.pad(items, (0, n_more), value=self.n_items))
        for layer in self.encoder.layers:
            states = _causal(layer, states)
        assert self.encoder.norm is not None
        normed: Tensor = self.encoder.norm(states)
        return normed[:, :n]


def _causal(layer: Any, states: Tensor) -> Tensor:
    """Return what a `SequenceTransformer`'s layer does under a causal mask, without its checks and conversions.

    For one history of ten items the library takes a fifth to two fifths longer.
    """
    attention = layer.self_attn
    read = functional.linear(layer.norm1(states), attention.in_proj_weight, attention.in_proj_bias)
    heads = read.view(*states.shape[:2], 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4).contiguous()
    query, key, value = heads.unbind()
    seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    states = states + attention.out_proj(seen.transpose(1, 2).flatten(2))
    written: Tensor = layer.linear2(functional.gelu(layer.linear1(layer.norm2(states))))
    return states + written


class GRU4Rec(SequenceNetwork):
    """A gated recurrent network over the history (Hidasi et al. 2016)."""

    def __init__(self, n_items: int, *, width: int, dropout: float) -> None:
        super().__init__(n_items, width=width, dropout=dropout)
        self.gru = nn.GRU(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, items: Tensor) -> Tensor:
        embedded = self.dropout(self.items(items))
        if not self.training:  # a step of few rows would have other last bits than one of many
            embedded = functional.pad(embedded, (0, 0, 0, 0, 0, max(0, BLOCK - len(items))))
        # The library would turn rows and steps around in place, and then add up in another order for some sizes.
        states, _ = self.gru(embedded.transpose(0, 1).contiguous())
        projected: Tensor = self.out(self.dropout(states)).transpose(0, 1)
        return projected[: len(items)]
