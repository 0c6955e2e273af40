"""A Llama-type decoder's forward without its library's overhead, for answers rather than training.

A small decoder that reads a few tokens spends most of its time between the products: in wrappers, caches, and norms and
rotations made of many small steps. This is the same computation on the same weights, with one step each. It is used
where no gradient is wanted and the decoder is a plain one in float32; everything else goes through transformers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flr.blocks import BLOCK

#: Positions whose rotation is worked out at first.
_POSITIONS = 1024
#: Widest decoder whose weights are prepared, which takes their memory twice. Few rows times a matrix that lies the
#: other way round take half of the time: the library copies it for every product.
_WIDEST_PREPARED = 512


class _Layer(NamedTuple):
    """Weights of a layer, [in, out]; projections of the same input come joined, or one after the other."""

    input_norm: Tensor
    read: tuple[Tensor, ...]
    write: Tensor
    mlp_norm: Tensor
    inner: tuple[Tensor, ...]
    outer: Tensor


class LeanLlama:
    """Runs a `transformers.LlamaModel`; weights may change in ways that their version tells, see `Backbone.train`.

    Args:
        transformer: Of which `is_plain` holds.
    """

    def __init__(self, transformer: Any) -> None:
        self._transformer = transformer
        config = transformer.config
        self._head_width = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        self._n_queries, self._n_heads = config.num_attention_heads, config.num_key_value_heads
        self._is_prepared = config.hidden_size <= _WIDEST_PREPARED
        self._epsilon = config.rms_norm_eps
        self._angles: Tensor | None = None
        self._prepared: tuple[list[tuple[int, int]], list[Tensor], list[_Layer]] | None = None

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
        cos, sin = self._rotations(embeddings, int(positions.max()))[:, positions][:, :, None]
        hidden, keys, values = embeddings, [], []
        n_more = 0 if past is None else -mask.shape[-1] % BLOCK
        rest = embeddings.new_zeros(len(embeddings), self._n_heads, n_more, self._head_width)
        mask = nn.functional.pad(mask, (0, n_more), value=torch.finfo(mask.dtype).min)
        for number, layer in enumerate(self._layers()):
            heads = self._heads(_projected(self._normed(hidden, layer.input_norm), layer.read))
            rotated, value = _rotated(heads[:, : -self._n_heads], cos, sin), heads[:, -self._n_heads :]
            query, key = rotated[:, : self._n_queries], rotated[:, self._n_queries :]
            if past is None:
                key, value = key.contiguous(), value.contiguous()
            else:
                key = torch.cat([past[0][number], key, rest], dim=2)
                value = torch.cat([past[1][number], value, rest], dim=2)
            seen = nn.functional.scaled_dot_product_attention(query, self._shared(key), self._shared(value), mask)
            hidden = hidden + seen.transpose(1, 2).flatten(2) @ layer.write
            gate, up = _projected(self._normed(hidden, layer.mlp_norm), layer.inner).chunk(2, dim=-1)
            hidden = hidden + (nn.functional.silu(gate) * up) @ layer.outer
            keys.append(key)
            values.append(value)
        return self._normed(hidden, self._transformer.norm.weight), tuple(keys), tuple(values)

    def _layers(self) -> list[_Layer]:
        """Return the weights of all layers as they are now."""
        parts = [_weights(layer) for layer in self._transformer.layers]
        if not self._is_prepared:
            return [_layer(of) for of in parts]
        weights = [weight for of in parts for weight in of]
        now = [(weight.data_ptr(), weight._version) for weight in weights]
        if self._prepared is None or self._prepared[0] != now:
            # Weights that are replaced stay alive until then, so that no other can have their address.
            self._prepared = (now, [weight.detach() for weight in weights], [_prepared(_layer(of)) for of in parts])
        return self._prepared[2]

    def _heads(self, projected: Tensor) -> Tensor:
        """Return [B, heads, T, head width], laid out the same whatever B is: the last bits depend on it."""
        heads = projected.view(*projected.shape[:2], -1, self._head_width)
        return heads.transpose(1, 2).contiguous()

    def _normed(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return nn.functional.rms_norm(hidden, hidden.shape[-1:], weight, self._epsilon)

    def _shared(self, heads: Tensor) -> Tensor:
        n_shared = self._n_queries // self._n_heads
        return heads if n_shared == 1 else heads.repeat_interleave(n_shared, dim=1)

    def _rotations(self, embeddings: Tensor, last: int) -> Tensor:
        """Return cosines and sines of positions up to `last`, [2, positions, head width], half of the sines negated."""
        angles = self._angles  # another thread may replace it by a shorter one
        if angles is None or angles.device != embeddings.device or last >= angles.shape[1]:
            places = torch.arange(max(_POSITIONS, 2 * last), device=embeddings.device)
            cos, sin = (table[0] for table in self._transformer.rotary_emb(embeddings, places[None]))
            half = self._head_width // 2
            angles = self._angles = torch.stack([cos, torch.cat([-sin[:, :half], sin[:, half:]], dim=1)])
        return angles


def is_plain(transformer: Any) -> bool:
    """Return whether `LeanLlama` computes what a decoder does: a float32 Llama without biases, LoRA or quantisation."""
    if type(transformer).__name__ != "LlamaModel" or not len(transformer.layers):
        return False
    config, first = transformer.config, transformer.layers[0]
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        config.hidden_act == "silu"
        and not config.attention_bias
        and not config.mlp_bias
        and rope.get("rope_type", "default") == "default"
        and all(type(module) is nn.Linear for module in _projections(first))
        and first.self_attn.q_proj.weight.dtype == torch.float32
    )


def _projections(layer: Any) -> list[nn.Module]:
    attention, mlp = layer.self_attn, layer.mlp
    return [
        *(attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj),
        *(mlp.gate_proj, mlp.up_proj, mlp.down_proj),
    ]


def _weights(layer: Any) -> tuple[Tensor, ...]:
    """Return what a layer computes with, in the order in which it does."""
    of = [module.weight for module in _projections(layer)]
    return (layer.input_layernorm.weight, *of[:4], layer.post_attention_layernorm.weight, *of[4:])


def _layer(of: tuple[Tensor, ...]) -> _Layer:
    """Return a layer of what `_weights` returns."""
    input_norm, query, key, value, write, mlp_norm, gate, up, outer = of
    return _Layer(input_norm, (query.T, key.T, value.T), write.T, mlp_norm, (gate.T, up.T), outer.T)


def _prepared(layer: _Layer) -> _Layer:
    """Return the same layer with projections joined and weights laid out as they are multiplied."""
    read, inner = (torch.cat(parts, dim=1) for parts in (layer.read, layer.inner))
    return layer._replace(read=(read,), inner=(inner,), write=layer.write.contiguous(), outer=layer.outer.contiguous())


def _projected(read: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
    """Return the projections of the same input, side by side, [B, T, sum of widths]."""
    each = [read @ weight for weight in weights]
    return each[0] if len(each) == 1 else torch.cat(each, dim=-1)


def _rotated(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs that are half a head apart, [B, heads, T, head width]."""
    return torch.addcmul(heads * cos, heads.roll(heads.shape[-1] // 2, -1), sin)
