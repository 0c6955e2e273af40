"""Multi-factor attention: K factors read the history and refine one shared thought, step by step.

Source: METHOD Eqs. 1-5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from flr.blocks import BLOCK, by_block
from flr.errors import ConfigError
from flr.reasoner.regularizers import diversity, orthogonality, sparsity
from flr.records import Thought

#: Takes a refinement step, 0..R-1, and its factors, [B, P, K, d_f]; returns those that the gate and the thought see.
FactorEdit = Callable[[int, Tensor], Tensor]


#: Lone logits are stored divided by this: Adam moves a number by about the learning rate, and a logit means something
#: from 1 on, which would take thousands of steps.
LOGIT_GAIN: Final = 10.0
#: Logits that an item loses per later item, before anything is learnt: K factors begin with horizons between these.
_FADING: Final = (0.5, 0.08)
#: Size of the first queries where ages count: content speaks up once it has something to say.
_QUIET: Final = 0.1


class MultiFactorAttention(nn.Module):
    """Refines the last prompt state into a thought through K factors, each with its own view of the history.

    The gate has one weight vector per factor (ours): with a single vector for all factors the part that reads
    the thought adds the same number to every factor's logit and the softmax cancels it.

    Source: METHOD Eqs. 1-5; shape letters as in `flr.records`, d_f is the factor width.

    Args:
        width: Hidden width D.
        n_factors: Factors K.
        n_steps: Refinement steps R; all steps share their weights.
        embedding_rms: Root mean square of the input embeddings, initial value of the scale s.
        gate: ``"softmax"`` weighs the factors by Eq. 3, ``"uniform"`` gives each 1 / K.
        share: Which projections are one: ``"none"``, ``"key_value"`` (W_val = W_key) or ``"factors"`` (all
            factors read through one W_key and one W_val of width d_f; their queries differ).
        full_width_factors: d_f = D instead of D / K.
        factor_width: d_f itself; None takes one of these.
        shuffles: Whether the factors of every target are mixed in a random order while training, so that the part of
            the mix that a factor feeds is no part of what it learns (an ablation, ours).
        thought_positions: ``"last"`` feeds z^R, ``"all"`` feeds z^1..z^R as R positions.
        is_bottleneck: Whether titles are written after the thought alone, without sight of the history (ours).
        n_ages: Items, counted from the last, whose age each factor has a learned bias for in its attention, older ones
            sharing the last (ours); 0 leaves Eq. 1 as it is.
        reads_items: Whether what may be read is the last token of every item (ours), by which the backbone has read the
            whole title: long titles do not weigh more, and what a factor reads is an item. The caller sees to it.

    Raises:
        ConfigError: D is not a multiple of K and the factors are not full-width.
    """

    def __init__(
        self,
        width: int,
        *,
        n_factors: int,
        n_steps: int,
        embedding_rms: float = 1.0,
        gate: str = "softmax",
        share: str = "none",
        full_width_factors: bool = False,
        factor_width: int | None = None,
        shuffles: bool = False,
        thought_positions: str = "last",
        is_bottleneck: bool = False,
        n_ages: int = 0,
        reads_items: bool = False,
    ) -> None:
        super().__init__()
        if factor_width is None and not full_width_factors and width % n_factors:
            raise ConfigError(
                f"the width {width} is not a multiple of reasoner.n_factors = {n_factors}; "
                "choose a divisor, or set reasoner.full_width_factors=true"
            )
        self.n_factors, self.n_steps = n_factors, n_steps
        self.factor_width = factor_width or (width if full_width_factors else width // n_factors)
        self.shuffles = shuffles
        self.gate, self.share, self.thought_positions = gate, share, thought_positions
        self.is_bottleneck, self.reads_items = is_bottleneck, reads_items
        inner = n_factors * self.factor_width
        read = self.factor_width if share == "factors" else inner
        self.query = nn.Linear(width, inner, bias=False)
        self.key = nn.Linear(width, read, bias=False)
        self.value = None if share == "key_value" else nn.Linear(width, read, bias=False)
        self.gate_weight = (
            nn.Parameter(torch.zeros(n_factors, self.factor_width + width)) if gate == "softmax" else None
        )
        self.age_bias = nn.Parameter(_fading(n_factors, n_ages) / LOGIT_GAIN) if n_ages else None
        self.mix = nn.Linear(inner, width, bias=False)
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.out = nn.Linear(width, width, bias=True)
        self.scale = nn.Parameter(torch.tensor(float(embedding_rms)))
        for linear in (self.query, self.key, self.value, self.mix, self.out):
            if linear is not None:
                nn.init.normal_(linear.weight, std=1 / math.sqrt(linear.in_features))
        if n_ages:
            nn.init.normal_(self.query.weight, std=_QUIET / math.sqrt(width))
        nn.init.zeros_(self.out.bias)

    @property
    def n_thoughts(self) -> int:
        """Thought positions at the head of each branch."""
        return self.n_steps if self.thought_positions == "all" else 1

    def forward(
        self,
        hidden: Tensor,
        readable: Tensor,
        ends: Tensor,
        factor_weights: Tensor | None = None,
        *,
        fixed_gates: Tensor | None = None,
        edit: FactorEdit | None = None,
        places: Tensor | None = None,
    ) -> Thought:
        """Return the thought of every target.

        Args:
            hidden: Last hidden states of the prompt streams, [B, L, D].
            readable: True at the stream tokens that each target may read, at least one, [B, P, L].
            ends: Column of each target's last prompt token, [B, P].
            factor_weights: Multipliers of the gates, [K] or [B, 1, K]; None leaves them as they are.
            fixed_gates: Aggregation weights of every step in place of Eq. 3, as interventions set them, [K]; None works
                them out.
            edit: Replaces the factors of each step, as interventions do; None leaves them as they are.
            places: Which item of its segment each token belongs to, -1 outside titles, [B, L]; needed for ages only.
        """
        bias = self._bias(places, readable)
        keys, values = self._read(hidden)
        state = hidden.gather(1, ends[..., None].expand(-1, -1, hidden.shape[-1]))
        states, factors, attentions, gates = [state], [], [], []
        for step in range(self.n_steps):
            factor, attention = self.attend(state, keys, values, bias)
            if edit is not None:
                factor = edit(step, factor)
            gate = (
                self.gates(factor, state) if fixed_gates is None else fixed_gates.to(factor).expand(factor.shape[:-1])
            )
            if factor_weights is not None:
                gate = gate * factor_weights
            weighted = self._in_order(self.n_factors * gate[..., None] * factor)
            mixed = by_block(self.mix, weighted.flatten(-2))
            state = self.norm(state + mixed)
            states.append(state)
            factors.append(factor)
            attentions.append(attention)
            gates.append(gate)
        fed = torch.stack(states[-self.n_thoughts :], dim=2)
        return Thought(
            vectors=self.scale * by_block(partial(nn.functional.linear, weight=self.out.weight), fed) + self.out.bias,
            states=torch.stack(states, dim=2),
            factors=torch.stack(factors),
            attentions=torch.stack(attentions),
            gates=torch.stack(gates),
        )

    def regularizers(self, thought: Thought, n_readable: Tensor) -> dict[str, Tensor]:
        """Return the losses that make factors specialise, of each target, [B, P] each.

        ``objective`` weighs those that it knows; a reasoner of one's own may return others, which count as they are.

        Source: METHOD Eqs. 6-8.

        Args:
            thought: What this reasoner thought.
            n_readable: Stream tokens that each target could read, [B, P].
        """
        return {
            "orthogonality": orthogonality(thought.factors),
            "diversity": diversity(thought.attentions),
            "sparsity": sparsity(thought.attentions, n_readable),
        }

    def _read(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of every token, [B, K or 1, L, d_f]."""
        keys = self._split(self.key(hidden))
        return keys, keys if self.value is None else self._split(self.value(hidden))

    def _split(self, read: Tensor) -> Tensor:
        """Return [B, P, K * d_f] as [B, K, P, d_f], laid out the same whatever B is: the last bits depend on it."""
        heads: Tensor = read.view(*read.shape[:2], -1, self.factor_width)
        return heads.transpose(1, 2).contiguous()

    def _bias(self, places: Tensor | None, readable: Tensor) -> Tensor:
        """Return what is added to the attention logits: minus infinity, nearly, where nothing may be read.

        [B, 1, P, L], or [B, K, P, L] where ages count.
        """
        hidden = torch.zeros(readable.shape, dtype=self.out.weight.dtype, device=readable.device)
        hidden = hidden.masked_fill_(~readable, torch.finfo(hidden.dtype).min / 2)[:, None]
        if self.age_bias is None:
            return hidden
        if places is None:
            raise ConfigError("reasoner.reads_age = true needs to know which item each token belongs to")
        place = places[:, None].expand_as(readable)
        last = place.masked_fill(~readable, -1).amax(-1, keepdim=True)
        n_ages = self.age_bias.shape[1] - 1
        age = torch.where(place < 0, n_ages, (last - place).clamp(0, n_ages - 1))
        # Threads add up the gradient of an indexed tensor in any order; that of an embedding has one.
        return hidden + LOGIT_GAIN * nn.functional.embedding(age, self.age_bias.T).permute(0, 3, 1, 2)

    def attend(self, state: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return factors [B, P, K, d_f] and attentions [B, P, K, L] (Eqs. 1 and 2)."""
        query = self._split(by_block(self.query, state))
        n_queries = query.shape[2]
        if n_queries < BLOCK:  # a product of one query is another kind, whose last bits depend on padding
            query = nn.functional.pad(query, (0, 0, 0, BLOCK - n_queries))
            bias = nn.functional.pad(bias, (0, 0, 0, BLOCK - n_queries))
        logits = query @ keys.transpose(-1, -2) / math.sqrt(self.factor_width)
        attention = (logits + bias).softmax(-1)
        factors = attention @ values
        return factors[:, :, :n_queries].transpose(1, 2), attention[:, :, :n_queries].transpose(1, 2)

    def _in_order(self, weighted: Tensor) -> Tensor:
        """Return weighted factors [B, P, K, d_f] in the order in which they are mixed."""
        if not (self.shuffles and self.training):
            return weighted
        order = torch.rand(weighted.shape[:-1], device=weighted.device).argsort(-1)
        return weighted.gather(-2, order[..., None].expand_as(weighted))

    def gates(self, factor: Tensor, state: Tensor) -> Tensor:
        """Return aggregation weights [B, P, K] (Eq. 3)."""
        if self.gate_weight is None:
            return factor.new_full(factor.shape[:-1], 1 / self.n_factors)
        reads_factor = self.gate_weight[:, : self.factor_width]
        reads_state = self.gate_weight[:, self.factor_width :]
        from_state = by_block(partial(nn.functional.linear, weight=reads_state), state)
        gates: Tensor = ((factor * reads_factor).sum(-1) + from_state).softmax(-1)
        return gates


def _fading(n_factors: int, n_ages: int) -> Tensor:
    """Return the first age biases, [K, n_ages + 1]; the last is that of tokens outside titles."""
    ages = torch.arange(n_ages + 1.0)
    ages[-1] = n_ages - 1
    fast, slow = _FADING
    share = (torch.arange(n_factors) + 0.5) / n_factors
    return -(fast ** (1 - share) * slow**share)[:, None] * ages
