"""What an explanation consists of: plain frozen records of numbers and texts, ready for `dataclasses.asdict` and JSON.

Log-probabilities are natural, over the whole catalogue. A rank counts the candidates that are more probable: items of
the history are no candidates where seen items are excluded, nor are items that filters leave out, but for the explained
item itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Where probabilities come from.
Source = Literal["titles", "votes", "assistant"]


@dataclass(frozen=True)
class RankedItem:
    """An item and what the model says of it.

    Attributes:
        item_index: 0..N-1.
        item_id: The item's own id.
        title: Its cleaned title.
        rank: 1 is the best; items that are equally probable, as those of one title are, have one rank.
        probability: p(item | history), in [0, 1].
        log_prob: Its natural logarithm.
    """

    item_index: int
    item_id: str
    title: str
    rank: int
    probability: float
    log_prob: float


@dataclass(frozen=True)
class Change:
    """What becomes of the explained item and of the list when one thing is left out.

    Attributes:
        log_prob: Of the explained item, without it.
        rank: Of the explained item, without it.
        items: The best k items without it; the candidates are the same as before.
        entered: Ids of those that were not on the list before, best first.
        left: Ids of those that are no longer on it, in the order they had.
    """

    log_prob: float
    rank: int
    items: tuple[RankedItem, ...]
    entered: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True)
class HistoryInfluence:
    """What one item of the history does.

    Attributes:
        position: Its place in the history as given, 0 is the oldest.
        item_index, item_id, title: The item.
        attention: Share of the thought's attention that its title gets, factors weighted by their gates; None for a
            model without a thought.
        influence: log-probability of the explained item less that without this purchase, in nats: above 0 where the
            purchase speaks for the item. None where it is the only one: a model is never asked about nobody.
        without: The list without this purchase; None likewise.
    """

    position: int
    item_index: int
    item_id: str
    title: str
    attention: float | None
    influence: float | None
    without: Change | None


@dataclass(frozen=True)
class FactorInfluence:
    """What one factor does.

    Attributes:
        factor: 0..K-1.
        name: From the model's profiles; None where there are none.
        gate: Its aggregation weight in the last refinement step, 0..1, times what it is turned up or down by.
        contribution: log-probability of the explained item less that with the factor's gate at 0, in nats: above 0
            where the factor speaks for the item. Contributions need not add up to anything. That of the only factor
            that is on holds the assistant's too: without any factor nobody votes, so nobody hears a second opinion.
        reads: Share of its attention in the last refinement step that each item of `Explanation.history` gets.
        elsewhere: The share outside all titles (preamble, suffix); with `reads` it adds up to 1.
        without: The list without this factor.
    """

    factor: int
    name: str | None
    gate: float
    contribution: float
    reads: tuple[float, ...]
    elsewhere: float
    without: Change


@dataclass(frozen=True)
class SourceInfluence:
    """What one source of the probabilities does, in a model that has a memory.

    Attributes:
        source: ``titles`` as they are written, ``votes`` of the factors, or the ``assistant``'s second opinion on them.
        weight: Its part of the say: what votes are trusted less belongs to titles, and the assistant has alpha + beta
            of the trust; the weights add up to 1.
        contribution: log-probability of the explained item less that without this source, in nats: above 0 where it
            speaks for the item. Without votes the assistant is not heard either; titles keep a trillionth of the say.
        without: The list without this source.
    """

    source: Source
    weight: float
    contribution: float
    without: Change


@dataclass(frozen=True)
class Explanation:
    """Why one item is recommended, or where it stands if it is not.

    Attributes:
        item: The explained item.
        is_seen: Whether the history holds it.
        is_allowed: Whether the filters allow it; True where there are none.
        n_sharing: Items that have its title, itself included; they divide the title's probability equally.
        items: The best k items as they are recommended.
        history: The items that the model reads, oldest first: the last `text.window` of the history.
        n_unread: Older items, which are not read and so have no influence.
        factors: One per factor; none for a model without a thought.
        sources: Titles, votes and assistant, as far as there are any; none for a model that writes titles only.
    """

    item: RankedItem
    is_seen: bool
    is_allowed: bool
    n_sharing: int
    items: tuple[RankedItem, ...]
    history: tuple[HistoryInfluence, ...]
    n_unread: int
    factors: tuple[FactorInfluence, ...]
    sources: tuple[SourceInfluence, ...]
