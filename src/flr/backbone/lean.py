"""A Llama-type decoder's forward without its library's overhead, for answers rather than training.

A small decoder that reads a few tokens spends most of its time between the products: in wrappers, caches, and norms and
rotations made of many small steps. This is the same computation on the same weights, with one step each. It is used
where no gradient is wanted and the decoder is a plain one in float32; everything else goes through transformers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from flr.blocks import BLOCK

#: Positions whose rotation is worked out at first.
_POSITIONS = 1024


class LeanLlama:
    """Runs a `transformers.LlamaModel`; weights are read from it at every call, so they may change.

    Args:
        transformer: Of which `is_plain` holds.
    """

    def __init__(self, transformer: Any) -> None:
        self._transformer = transformer
        config = transformer.config
        self._head_width = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        self._n_heads = config.num_key_value_heads
        self._n_shared = config.num_attention_heads // config.num_key_value_heads
        self._angles: tuple[Tensor, Tensor] | None = None

    def __call__(
        self,
        embeddings: Tensor,
        positions: Tensor,
        mask: Tensor,
        past: tuple[tuple[Tensor, ...], tuple[Tensor, ...]] | None,
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return hidden states [B, T, D], and keys and values of all columns by layer.

        Args:
            embeddings: [B, T, D].
            positions: [B, T].
            mask: What is added to attention logits, [B, 1, T, L + T].
            past: Keys and values of the L columns before, by layer; None where there are none. After a past, columns
                are padded to whole blocks: how attention adds up depends on what remains after the last one.
        """
        cos, sin = (table[positions][:, None] for table in self._rotations(embeddings, int(positions.max())))
        hidden, keys, values = embeddings, [], []
        n_more = 0 if past is None else -mask.shape[-1] % BLOCK
        rest = embeddings.new_zeros(len(embeddings), self._n_heads, n_more, self._head_width)
        mask = nn.functional.pad(mask, (0, n_more), value=torch.finfo(mask.dtype).min)
        for number, layer in enumerate(self._transformer.layers):
            read = _normed(hidden, layer.input_layernorm)
            attention = layer.self_attn
            key = _rotated(self._heads(read, attention.k_proj), cos, sin)
            value = self._heads(read, attention.v_proj)
            if past is not None:
                key = torch.cat([past[0][number], key, rest], dim=2)
                value = torch.cat([past[1][number], value, rest], dim=2)
            query = _rotated(self._heads(read, attention.q_proj), cos, sin)
            seen = nn.functional.scaled_dot_product_attention(query, self._shared(key), self._shared(value), mask)
            hidden = hidden + nn.functional.linear(seen.transpose(1, 2).flatten(2), attention.o_proj.weight)
            read = _normed(hidden, layer.post_attention_layernorm)
            inner = nn.functional.silu(nn.functional.linear(read, layer.mlp.gate_proj.weight)) * nn.functional.linear(
                read, layer.mlp.up_proj.weight
            )
            hidden = hidden + nn.functional.linear(inner, layer.mlp.down_proj.weight)
            keys.append(key)
            values.append(value)
        return _normed(hidden, self._transformer.norm), tuple(keys), tuple(values)

    def _heads(self, read: Tensor, projection: nn.Linear) -> Tensor:
        """Return [B, heads, T, head width], laid out the same whatever B is: the last bits depend on it."""
        heads = nn.functional.linear(read, projection.weight).view(*read.shape[:2], -1, self._head_width)
        return heads.transpose(1, 2).contiguous()

    def _shared(self, heads: Tensor) -> Tensor:
        return heads if self._n_shared == 1 else heads.repeat_interleave(self._n_shared, dim=1)

    def _rotations(self, embeddings: Tensor, last: int) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of positions up to `last`, [positions, head width]; half of the sines is negated."""
        known = 0 if self._angles is None or self._angles[0].device != embeddings.device else len(self._angles[0])
        if self._angles is None or last >= known:
            places = torch.arange(max(_POSITIONS, 2 * last), device=embeddings.device)
            cos, sin = (table[0] for table in self._transformer.rotary_emb(embeddings, places[None]))
            half = self._head_width // 2
            self._angles = (cos, torch.cat([-sin[:, :half], sin[:, half:]], dim=1))
        return self._angles


def is_plain(transformer: Any) -> bool:
    """Return whether `LeanLlama` computes what a decoder does: a float32 Llama without biases, LoRA or quantisation."""
    config = transformer.config
    rope = getattr(config, "rope_parameters", None) or {}
    first = transformer.layers[0] if len(transformer.layers) else None
    return (
        type(transformer).__name__ == "LlamaModel"
        and config.hidden_act == "silu"
        and not config.attention_bias
        and not config.mlp_bias
        and rope.get("rope_type", "default") == "default"
        and first is not None
        and all(type(module) is nn.Linear for module in _projections(first))
        and first.self_attn.q_proj.weight.dtype == torch.float32
    )


def _projections(layer: Any) -> list[nn.Module]:
    attention, mlp = layer.self_attn, layer.mlp
    return [
        *(attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj),
        *(mlp.gate_proj, mlp.up_proj, mlp.down_proj),
    ]


def _normed(hidden: Tensor, norm: Any) -> Tensor:
    return nn.functional.rms_norm(hidden, hidden.shape[-1:], norm.weight, norm.variance_epsilon)


def _rotated(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs that are half a head apart, [B, heads, T, head width]."""
    return torch.addcmul(heads * cos, heads.roll(heads.shape[-1] // 2, -1), sin)
