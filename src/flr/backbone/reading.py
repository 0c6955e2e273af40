"""Does a pretrained decoder read packed histories and branches as it reads plain text?

Streams hold several histories in a row, and branches go on from cached keys and values under a mask of our own.
Decoders that keep a state besides (convolutions, recurrences), place tokens by other means, or change their logits
after the output weights would be wrong in silence, so every one is tried out when it is loaded.

Windows of sliding attention are not kept: a token sees all of its history, as far as that is longer than a window.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from flr.backbone.streams import Backbone
from flr.errors import ConfigError

#: Tokens of either of two histories, and how many of the second one are read before its branch.
_N_TOKENS: Final = 6
_N_BEFORE: Final = 3
#: Largest difference of logits from the decoder's own, as a share of their size. In bfloat16 those of SmolLM2 are up to
#: 14 % of a token away from float32 either way.
_NEARLY: Final = {torch.float32: 1e-3, torch.bfloat16: 0.25}
_HINT: Final = "take a plain decoder, such as Llama, Qwen 2 or 3, Gemma 3, Mistral, Phi 3, OLMo 2, Granite or SmolLM"


@torch.no_grad()
def check_reading(backbone: Backbone, model: PreTrainedModel, source: str) -> None:
    """Read two short histories in a row, and a branch on the second, and compare with the model's own logits.

    Args:
        backbone: What reads.
        model: The model with its head, on the same weights.
        source: What to call it.

    Raises:
        ConfigError: Logits differ, or the decoder cannot be run this way.
    """
    ids = (1 + 7 * torch.arange(2 * _N_TOKENS)).view(2, -1) % backbone.embedding.num_embeddings
    was_training = backbone.training
    backbone.eval()
    try:
        own = model(input_ids=ids, use_cache=False).logits.float()
        ours = (_hidden(backbone, ids) @ backbone.output_weight.T).float()
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{_named(source, model)}, which cannot be run on packed histories ({error}); {_HINT}"
        ) from error
    finally:
        backbone.train(was_training)
    own, ours = (logits - logits.mean(-1, keepdim=True) for logits in (own, ours))
    error_share = float((ours - own).norm() / own.norm())
    if not error_share <= _NEARLY[backbone.embedding.weight.dtype]:
        raise ConfigError(
            f"{_named(source, model)}, whose logits on packed histories are {error_share:.0%} away from its own: it "
            f"keeps more than keys and values, or changes logits after its output weights; {_HINT}"
        )


def _named(source: str, model: PreTrainedModel) -> str:
    return f"{source!r} is a {model.config.model_type} model"


def _hidden(backbone: Backbone, ids: Tensor) -> Tensor:
    """Return the last hidden states of two histories, [2, n, D], the end of the second one read as a branch."""
    first, second = ids
    places = torch.arange(_N_TOKENS)
    positions = torch.cat([places, places[:_N_BEFORE]])
    segments = (torch.arange(len(positions)) >= _N_TOKENS).long()
    streams = backbone.encode(torch.cat([first, second[:_N_BEFORE]])[None], positions[None], segments[None])
    n_after = _N_TOKENS - _N_BEFORE
    earlier = torch.ones(n_after, n_after, dtype=torch.bool).tril()
    sees = torch.cat([segments.bool().expand(n_after, -1), earlier], dim=1)[None, None]
    branch = backbone.branch(streams, backbone.embed(second[None, _N_BEFORE:]), places[None, _N_BEFORE:], sees)
    return torch.cat([streams.hidden, branch], dim=1).view(2, _N_TOKENS, -1)
