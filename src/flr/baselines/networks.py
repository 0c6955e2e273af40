"""The sequential networks that are rivals only; see `flr.sequential.networks` for what they have in common."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from flr.sequential.networks import SequenceNetwork, SequenceTransformer


class Caser(SequenceNetwork):
    """Horizontal and vertical convolutions over the last items (Tang and Wang 2018).

    The image of the last ``reach`` items is slid over the sequence, so every position has the state that it would have
    as the end of a history of its own.

    Args:
        reach: Items L that a state sees.
        n_filters: Horizontal filters of each height, and vertical filters.
    """

    HEIGHTS: ClassVar[tuple[int, ...]] = (1, 2, 3)

    def __init__(self, n_items: int, *, width: int, dropout: float, reach: int = 5, n_filters: int = 16) -> None:
        super().__init__(n_items, width=width, dropout=dropout)
        self.reach = reach
        heights = [height for height in self.HEIGHTS if height <= reach]
        self.horizontal = nn.ModuleList(nn.Conv1d(width, n_filters, height) for height in heights)
        self.vertical = nn.Conv2d(1, n_filters, (reach, 1))
        self.out = nn.Linear(n_filters * (len(heights) + width), width)

    def forward(self, items: Tensor) -> Tensor:
        earlier = functional.pad(self.items(items), (0, 0, self.reach - 1, 0))  # zeros before the first item
        image = earlier.transpose(1, 2)
        features = []
        for convolution in self.horizontal:
            fired = functional.relu(convolution(image))
            features.append(functional.max_pool1d(fired, fired.shape[2] - items.shape[1] + 1, stride=1))
        of_width = self.vertical(earlier[:, None])  # [B, filters, T, D]
        features.append(of_width.transpose(2, 3).flatten(1, 2))
        states: Tensor = functional.relu(self.out(self.dropout(torch.cat(features, dim=1).transpose(1, 2))))
        return states


class BERT4Rec(SequenceTransformer):
    """Self-attention to both sides of masked places (Sun et al. 2019); the next item is a mask at the end."""

    is_cloze: ClassVar[bool] = True

    def forward(self, items: Tensor) -> Tensor:
        states: Tensor = self.encoder(self.embed(items), src_key_padding_mask=items == self.n_items)
        return states
