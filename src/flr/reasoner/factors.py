"""Multi-factor attention: K factors read the history and refine one shared thought, step by step.

Source: METHOD Eqs. 1-5.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from flr.errors import ConfigError
from flr.records import Thought

#: Takes a refinement step, 0..R-1, and its factors, [B, P, K, d_f]; returns those that the gate and the thought see.
FactorEdit = Callable[[int, Tensor], Tensor]


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
        self.is_bottleneck = is_bottleneck
        inner = n_factors * self.factor_width
        read = self.factor_width if share == "factors" else inner
        self.query = nn.Linear(width, inner, bias=False)
        self.key = nn.Linear(width, read, bias=False)
        self.value = None if share == "key_value" else nn.Linear(width, read, bias=False)
        self.gate_weight = (
            nn.Parameter(torch.zeros(n_factors, self.factor_width + width)) if gate == "softmax" else None
        )
        self.mix = nn.Linear(inner, width, bias=False)
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.out = nn.Linear(width, width, bias=True)
        self.scale = nn.Parameter(torch.tensor(float(embedding_rms)))
        for linear in (self.query, self.key, self.value, self.mix, self.out):
            if linear is not None:
                nn.init.normal_(linear.weight, std=1 / math.sqrt(linear.in_features))
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
        edit: FactorEdit | None = None,
    ) -> Thought:
        """Return the thought of every target.

        Args:
            hidden: Last hidden states of the prompt streams, [B, L, D].
            readable: True at the stream tokens that each target may read, at least one, [B, P, L].
            ends: Column of each target's last prompt token, [B, P].
            factor_weights: Multipliers of the gates, [K] or [B, 1, K]; None leaves them as they are.
            edit: Replaces the factors of each step, as interventions do; None leaves them as they are.
        """
        keys, values = self._read(hidden)
        state = hidden.gather(1, ends[..., None].expand(-1, -1, hidden.shape[-1]))
        states, factors, attentions, gates = [state], [], [], []
        for step in range(self.n_steps):
            factor, attention = self._attend(state, keys, values, readable)
            if edit is not None:
                factor = edit(step, factor)
            gate = self._gates(factor, state)
            if factor_weights is not None:
                gate = gate * factor_weights
            mixed = self.mix(self._in_order(self.n_factors * gate[..., None] * factor).flatten(-2))
            state = self.norm(state + mixed)
            states.append(state)
            factors.append(factor)
            attentions.append(attention)
            gates.append(gate)
        fed = torch.stack(states[-self.n_thoughts :], dim=2)
        return Thought(
            vectors=self.scale * nn.functional.linear(fed, self.out.weight) + self.out.bias,
            states=torch.stack(states, dim=2),
            factors=torch.stack(factors),
            attentions=torch.stack(attentions),
            gates=torch.stack(gates),
        )

    def _read(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of every token, [B, K or 1, L, d_f]."""
        keys = self.key(hidden).unflatten(-1, (-1, self.factor_width)).transpose(1, 2)
        if self.value is None:
            return keys, keys
        return keys, self.value(hidden).unflatten(-1, (-1, self.factor_width)).transpose(1, 2)

    def _attend(self, state: Tensor, keys: Tensor, values: Tensor, readable: Tensor) -> tuple[Tensor, Tensor]:
        """Return factors [B, P, K, d_f] and attentions [B, P, K, L] (Eqs. 1 and 2)."""
        query = self.query(state).unflatten(-1, (self.n_factors, -1)).transpose(1, 2)
        logits = query @ keys.transpose(-1, -2) / math.sqrt(self.factor_width)
        logits = logits.masked_fill(~readable[:, None], torch.finfo(logits.dtype).min)
        attention = logits.softmax(-1)
        return (attention @ values).transpose(1, 2), attention.transpose(1, 2)

    def _in_order(self, weighted: Tensor) -> Tensor:
        """Return weighted factors [B, P, K, d_f] in the order in which they are mixed."""
        if not (self.shuffles and self.training):
            return weighted
        order = torch.rand(weighted.shape[:-1], device=weighted.device).argsort(-1)
        return weighted.gather(-2, order[..., None].expand_as(weighted))

    def _gates(self, factor: Tensor, state: Tensor) -> Tensor:
        """Return aggregation weights [B, P, K] (Eq. 3)."""
        if self.gate_weight is None:
            return factor.new_full(factor.shape[:-1], 1 / self.n_factors)
        reads_factor = self.gate_weight[:, : self.factor_width]
        reads_state = self.gate_weight[:, self.factor_width :]
        gates: Tensor = ((factor * reads_factor).sum(-1) + state @ reads_state.T).softmax(-1)
        return gates
