"""AlphaRec (Sheng et al. 2024): frozen language embeddings of titles are all that is known of an item.

Departures: the softmax is over all items instead of sampled negatives, and nothing is propagated over a graph.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from flr.recommender import Recommender
from flr.records import FloatArray, ragged_indices
from flr.sequential.networks import SequenceNetwork
from flr.text.template import TokenStreams

#: Hidden width of the network over titles, relative to its output.
_HIDDEN: Final = 4


class AlphaRec(SequenceNetwork):
    """A person is the mean of their items, an item a network's view of its title; scores are cosines.

    ``e_i = MLP(title_i)``, ``u = mean of e over the history``, ``logit(i) = cos(u, e_i) / temperature``

    Args:
        titles: Language embeddings of the titles, [N, D_title] float32; frozen, centred and scaled here.
        width: Width D of items and people.
        dropout: Dropout within the network.
        temperature: Divides the cosines.
    """

    titles: Tensor

    def __init__(self, titles: Tensor, *, width: int, dropout: float, temperature: float) -> None:
        nn.Module.__init__(self)  # no item has an embedding of its own
        self.n_items = len(titles)
        self.temperature = temperature
        # Hidden states of one model share a large mean, which would make all titles look alike.
        self.register_buffer("titles", functional.normalize(titles.float() - titles.float().mean(0)) * width**0.5)
        hidden = _HIDDEN * width
        self.network = nn.Sequential(
            nn.Linear(titles.shape[1], hidden), nn.LeakyReLU(), nn.Dropout(dropout), nn.Linear(hidden, width)
        )

    def forward(self, items: Tensor) -> Tensor:
        real = items < self.n_items
        taken = self.network(self.titles[items.clamp(max=self.n_items - 1)]) * real[..., None]
        means: Tensor = taken.cumsum(1) / real.cumsum(1).clamp(min=1)[..., None]
        return functional.normalize(means, dim=-1)

    def output(self, items: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        views = functional.normalize(self.network(self.titles if items is None else self.titles[items]), dim=-1)
        return views / self.temperature, None


def title_embeddings(recommender: Recommender, *, batch_size: int = 64) -> FloatArray:
    """Return the mean of the backbone's last hidden states over the tokens of each item's title, float32, [N, D].

    Args:
        recommender: Its backbone reads each title by itself, without preamble or history.
        batch_size: Titles read at once.
    """
    compiled, model = recommender.compiled, recommender.model.eval()
    titles = compiled.template.titles
    lengths = np.maximum(titles.lengths - 1, 1)  # without the end-of-item token
    means = np.empty((len(lengths), model.backbone.width), dtype=np.float32)
    order = np.argsort(lengths, kind="stable")
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            leaves = order[start : start + batch_size]
            indices, offsets = ragged_indices(titles.offsets[leaves], lengths[leaves])
            around = np.full(len(indices), -1)
            read = model.read(
                TokenStreams(titles.ids[indices].astype(np.int64), offsets, lengths[leaves] - 1, around, around)
            )
            weights = read.real / read.real.sum(1, keepdim=True)
            means[leaves] = torch.einsum("bld,bl->bd", read.hidden.float(), weights).cpu().numpy()
    return means[compiled.catalogue.leaf]
