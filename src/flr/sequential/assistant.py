"""The assistant: small models that know items by their identity, as a second opinion on votes.

Factors vote by counts: who followed whom, one pair of items at a time. Which items together mean what, only training on
many targets tells, more of them than a language model sees in an affordable run. Networks of item embeddings see them
all in minutes, a regression of items on each other solves for them in seconds, and what they say is multiplied into the
votes, less what is popular anyway:

    p_votes(y) ~ p_factors(y)^(1 - alpha - beta) p_networks(y)^alpha p_linear(y)^beta popularity(y)^(-gamma)

p_networks is the geometric mean of the networks' distributions, and alpha, beta and gamma are settled on validation
(`flr.training.assisting`). The product keeps what all find likely; a sum, which keeps what any does, ranked worse.

Source: the text-free assistant of D3 (Bao et al. 2024), which does so to every token of a beam, EASE (Steck 2019), and
logit adjustment (Menon et al. 2021); over votes it is ours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from flr.blocks import by_block, summed_in_parts, whole_blocks
from flr.config import AssistantConfig
from flr.sequential.networks import GRU4Rec, SASRec, SequenceNetwork

#: No vote goes below: a product would silence what nobody has counted yet.
LEAST: Final = 1e-12
_T = TypeVar("_T")
_ASIDE: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="aside")  # its thread begins with the first work
#: Part of popularity in a linear model's opinion: most items have no weight from any item of a history.
_SMOOTHING: Final = 0.1


@dataclass(frozen=True)
class Advice:
    """What an assistant says.

    Attributes:
        opinions: log p of all items up to a constant, float32, [B, N] each.
        log_popularity: Of all items, [N].
        weights: The exponent of each opinion, 0 for histories that it knows nothing of, [B, len(opinions)].
        discount: gamma of each history, 0 where nobody knows anything of it, [B].
    """

    opinions: tuple[Tensor, ...]
    log_popularity: Tensor
    weights: Tensor
    discount: Tensor

    @property
    def say(self) -> Tensor:
        """The part that these opinions have of a product with votes, [B]."""
        return functools.reduce(torch.add, self.weights.unbind(1))

    def on(self, probs: Tensor) -> Tensor:
        """Return votes after this second opinion, each row a distribution, [B, N]."""
        return self.logits_on(probs.clamp(min=LEAST).log()).softmax(-1)

    def logits_on(self, log_votes: Tensor) -> Tensor:
        """Return the logarithm of the product, not normalised, [B, N]."""
        logits = (1 - self.say)[:, None] * log_votes
        for opinion, weight in zip(self.opinions, self.weights.unbind(1), strict=True):
            logits = logits + weight[:, None] * opinion  # in one step, the end of a row would be rounded otherwise
        return logits - self.discount[:, None] * self.log_popularity


class LinearOpinion(nn.Module):
    """Scores items by fixed weights from each item of the history, the later the more.

    ``s(y) = sum_i decay^(items after x_i) w(x_i, y)``, at least 0, and ``p(y)`` is ``s(y) / sum s`` with `_SMOOTHING`
    of popularity.

    Args:
        n_items: Items N.
        n_kept: Weights kept of each.
        decay: Weight of an item of the history relative to its successor.
        window: Most items of a history.

    Attributes:
        neighbours: Which items the weights of each item are for, a buffer, [N, k] int32.
        weights: w, a buffer, [N, k] float32.
    """

    neighbours: Tensor
    weights: Tensor
    by_age: Tensor

    def __init__(self, n_items: int, n_kept: int, *, decay: float, window: int) -> None:
        super().__init__()
        # Looked up: a power has other last bits at the end of a short row than within a long one.
        self.register_buffer("by_age", decay ** torch.arange(window, dtype=torch.float64), persistent=False)
        self.register_buffer("neighbours", torch.zeros(n_items, n_kept, dtype=torch.int32))
        self.register_buffer("weights", torch.zeros(n_items, n_kept))

    def forward(self, items: Tensor, popularity: Tensor) -> Tensor:
        """Return log p of all items, float32, [B, N].

        Args:
            items: Items of each history from the oldest on, N after the last, [B, W].
            popularity: Share of each item of what was taken, [N].
        """
        n_items, known = len(self.weights), items < len(self.weights)
        rows, places = torch.nonzero(known, as_tuple=True)
        read, age = items[rows, places], known.sum(1)[rows] - 1 - places
        said = self.weights[read] * self.by_age[age].float()[:, None]
        flat = rows[:, None] * n_items + self.neighbours[read]
        scores = said.new_zeros(len(items) * n_items).index_add_(0, flat.flatten(), said.flatten())
        scores = scores.view(len(items), n_items).clamp(min=0)
        total = summed_in_parts(scores)
        shares = scores * ((1 - _SMOOTHING) / total.clamp(min=1e-30))
        return torch.where(total > 0, shares + _SMOOTHING * popularity, popularity).log()


class SequenceAssistant(nn.Module):
    """Trained models of item sequences, and how much they have to say.

    Args:
        n_items: Items it knows, N.
        networks: Trained networks; their weights are left alone from now on.
        linear: What speaks beside them; None for the networks alone.

    Attributes:
        weights: alpha and beta, as far as there are networks and a linear model, a buffer.
        discount: gamma, a buffer.
        log_popularity: Logarithm of the share that each item has of what was taken, [N], a buffer.
    """

    weights: Tensor
    discount: Tensor
    log_popularity: Tensor

    def __init__(self, n_items: int, networks: Sequence[SequenceNetwork], linear: LinearOpinion | None = None) -> None:
        super().__init__()
        self.n_items = n_items
        self.networks = cast("Sequence[SequenceNetwork]", nn.ModuleList(networks))
        self.linear = linear
        self.requires_grad_(requires_grad=False).eval()
        self.register_buffer("weights", torch.zeros(bool(networks) + (linear is not None)))
        self.register_buffer("discount", torch.zeros(()))
        self.register_buffer("log_popularity", torch.zeros(n_items))

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: only `flr.sequential.fitting` trains the networks, each by itself."""
        return super().train(mode=False)

    def ask(self, items: Tensor) -> Callable[[], Advice]:
        """Ask about histories while the caller reads them; return what waits for the answer. See `forward`, `aside`."""
        return aside(functools.partial(self, items), items.device)

    def forward(self, items: Tensor) -> Advice:
        """Return what they say to each history: the same to the bit in any company.

        Args:
            items: Items of each history from the oldest on, at most the window, -1 after the last, [B, W]; those that
                the assistant does not know are left out.
        """
        padded = self._known(items)
        n_known = (padded < self.n_items).sum(1)
        opinions = list[Tensor]()
        if len(self.networks):
            opinions.append(self._of_networks(padded, (n_known - 1).clamp(min=0)))
        if self.linear is not None:
            opinions.append(self.linear(padded, self.log_popularity.exp()))
        is_known = n_known > 0
        return Advice(tuple(opinions), self.log_popularity, self.weights * is_known[:, None], self.discount * is_known)

    def _known(self, items: Tensor) -> Tensor:
        """Return histories of known items, N after the last, one column at least."""
        if not items.shape[1]:
            return items.new_full((len(items), 1), self.n_items)
        if int(items.max()) < self.n_items:
            return items.masked_fill(items < 0, self.n_items)
        known = (items >= 0) & (items < self.n_items)
        padded = items.new_full((len(items), items.shape[1] + 1), self.n_items)
        place = torch.where(known, known.cumsum(1) - 1, items.shape[1])
        return padded.scatter_(1, place, items)[:, : items.shape[1]]

    def _of_networks(self, padded: Tensor, last: Tensor) -> Tensor:
        """Return the mean of the networks' log-probabilities after the last item of each history, [B, N]."""
        ends = (torch.arange(len(padded), device=padded.device), last)
        opinions = (by_block(network.logits, network(padded)[ends]).float() for network in self.networks)
        return functools.reduce(torch.add, (logits.log_softmax(-1) for logits in opinions)) / len(self.networks)


def aside(work: Callable[[], _T], device: torch.device) -> Callable[[], _T]:
    """Begin some work on the next core, without gradients; return what waits for its result, or raises what it raised.

    Small operations in a row keep one core busy however many there are, so what needs nothing of what the caller does
    next can be worked out beside it. Work that has not begun when its result is asked for is done by who asks. On a GPU
    operations queue up anyway, and where one operation may use several threads already, a second team of them would
    get in the first one's way: there work is done at once.

    Args:
        work: What is done.
        device: Where its operations run.
    """
    with_inference = torch.is_inference_mode_enabled()

    def without_gradients() -> _T:
        with torch.inference_mode(with_inference), torch.no_grad():
            return work()

    if device.type != "cpu" or torch.get_num_threads() > 1:
        result = without_gradients()
        return lambda: result
    future = _ASIDE.submit(without_gradients)
    return lambda: without_gradients() if future.cancel() else future.result()


def sequence_networks(config: AssistantConfig) -> list[str]:
    """Return which of the networks are read through, item by item, and trained by steps."""
    return [name for name in config.networks if name != "ease"]


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
        for name in sequence_networks(config)
    ]
    if "ease" not in config.networks:
        return SequenceAssistant(n_items, networks)
    n_kept = min(config.ease.n_neighbours, config.ease.most_items, n_items)
    return SequenceAssistant(n_items, networks, LinearOpinion(n_items, n_kept, decay=config.ease.decay, window=window))
