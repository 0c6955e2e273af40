"""Typed settings: a file plus overrides in, a checked and complete copy out.

One section per station. An unknown key is an error that names the nearest valid one; nothing is ever
read as "absent" because it was misspelled. This module loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from flr.errors import ConfigError
from flr.sections import Section, checked, read_settings

#: Raised when a change makes older resolved configs unreadable.
CONFIG_VERSION = 1
#: Settings of a reasoner that older runs do not mention, as they were.
_FORMERLY: Final = {"memory": "none", "relations": "shared", "reads": "tokens", "reads_age": False}
#: Characters of a default that listings show.
_LONGEST_DEFAULT = 24


def _unquoted_no(value: object) -> object:
    """Return ``"no"`` for what YAML makes of an unquoted no."""
    return "no" if value is False else value


class TextConfig(Section):
    """Histories and titles as tokens."""

    window: int = Field(20, ge=1, description="Most recent items of a history that the model reads.")
    template: Literal["append_only", "instruction"] = Field(
        "append_only", description="Preamble and titles; or an instruction, the titles and a response header."
    )
    preamble: str = Field("", description="Text before the first title (append_only).")
    instruction: str = Field(
        "### Instruction:\nThese are the titles that one person chose, from the first to the latest. "
        "Name the title that this person will choose next.\n\n",
        description="What is asked of the model (instruction).",
    )
    input_header: str = Field("### Input:\n", description="Text between that and the first title (instruction).")
    response_header: str = Field(
        "\n### Response:\n", description="Text between the last title and the thought, not empty (instruction)."
    )
    vocabulary_size: int = Field(8000, ge=260, description="Size of the compact backbone's byte-level BPE.")
    max_title_tokens: int = Field(48, ge=2, description="Longer titles are cut to this many tokens.")

    @property
    def around_titles(self) -> tuple[str, str]:
        """The text before the first title, and the text after the last."""
        if self.template == "append_only":
            return self.preamble, ""
        return self.instruction + self.input_header, self.response_header


class BackboneConfig(Section):
    """The causal language model that reads histories and writes titles."""

    source: str = Field(
        "compact", description="`compact`, `smollm2-135m`, a Hugging Face id, or a local folder or GGUF file."
    )
    width: int = Field(192, ge=8, description="Hidden width D (compact only).")
    n_layers: int | None = Field(
        None, ge=1, description="Keep only the first N layers of a pretrained model; compact: 3 when unset."
    )
    n_heads: int = Field(4, ge=1, description="Attention heads (compact only).")
    feed_forward: int = Field(512, ge=8, description="Width of the gated feed-forward layer (compact only).")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout on embeddings and, where supported, attention.")
    train: Literal["full", "lora", "frozen"] = Field("full", description="Which backbone weights are trained.")
    lora_rank: int = Field(16, ge=1, description="Rank of the LoRA matrices.")
    lora_alpha: float = Field(32.0, gt=0, description="LoRA scale.")
    lora_dropout: float = Field(0.05, ge=0, lt=1, description="LoRA dropout.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Type the weights are held in.")


#: What `reasoner.kind` may be; `flr.building.register_reasoner` adds to it.
REASONER_KINDS: Final = {"factorized", "none"}


class ReasonerConfig(Section):
    """Multi-factor attention (METHOD Eqs. 1-5)."""

    kind: str = Field(
        "factorized",
        description="`factorized`; `none`: no thought at all (BIGRec); or one named by `flr.register_reasoner`.",
    )
    n_factors: int = Field(4, ge=1, description="Preference factors K.")
    n_steps: int = Field(2, ge=1, description="Refinement steps R.")
    gate: Literal["softmax", "uniform"] = Field("softmax", description="Aggregation weights of the factors.")
    share: Literal["none", "key_value", "factors"] = Field(
        "none", description="One projection for keys and values, or one key/value reader for all factors."
    )
    full_width_factors: bool = Field(False, description="Factor width D instead of D / K.")
    factor_width: int | None = Field(None, ge=1, description="Factor width d_f; unset: D / K, or D as above.")
    shuffle_factors: bool = Field(
        False, description="Mix what factors add to the thought in a random order for every training target."
    )
    thought_positions: Literal["last", "all"] = Field(
        "last", description="Feed z^R as one thought position, or z^1..z^R as R of them."
    )
    titles_see: Literal["history", "thought"] = Field(
        "history", description="What is written after a thought sees the history too, or the thought alone."
    )
    memory: Literal["none", "transitions"] = Field(
        "transitions", description="Factors also vote for what followed the items that they read."
    )
    relations: Literal["apart", "shared"] = Field(
        "apart",
        description="Several factors vote in turn for what soon followed and what goes together, or all for both.",
    )
    reads: Literal["tokens", "items"] = Field(
        "items", description="What factors attend to: every token of a prompt, or the last token of every item."
    )
    reads_age: bool = Field(True, description="Each factor's attention has a learned bias for an item's age.")

    @property
    def has_memory(self) -> bool:
        """Whether factors vote; without factors nobody does."""
        return self.kind != "none" and self.memory == "transitions"

    @model_validator(mode="after")
    def _check_kind(self) -> ReasonerConfig:
        if self.kind not in REASONER_KINDS:
            raise ValueError(
                f"reasoner.kind {self.kind!r} is none of {sorted(REASONER_KINDS)}; one of your own is named first, by "
                "flr.register_reasoner"
            )
        return self

    @model_validator(mode="after")
    def _check_factor_width(self) -> ReasonerConfig:
        if self.full_width_factors and self.factor_width is not None:
            raise ValueError(
                f"reasoner.full_width_factors and reasoner.factor_width {self.factor_width} contradict; give one"
            )
        return self

    def width_of_factors(self, width: int) -> int:
        """Return the factor width d_f in a backbone of a given width D."""
        return self.factor_width or (width if self.full_width_factors else width // self.n_factors)

    @property
    def n_thoughts(self) -> int:
        """Thought positions between a history and a title."""
        if self.kind == "none":
            return 0
        return self.n_steps if self.thought_positions == "all" else 1


class ObjectiveConfig(Section):
    """Stage-one loss (METHOD 4 and 5)."""

    likelihood: Literal["catalogue", "vocabulary"] = Field(
        "catalogue", description="Softmax over the children of a trie node, or over the whole vocabulary."
    )
    weighting: Literal["fixed", "uncertainty"] = Field(
        "fixed", description="Weights below, or learned homoscedastic-uncertainty weights (Kendall et al. 2018)."
    )
    lambda_orth: float = Field(0.1, ge=0, description="Weight of the orthogonality loss, Eq. 6.")
    lambda_div: float = Field(0.01, ge=0, description="Weight of the attention-diversity loss, Eq. 7.")
    lambda_sparse: float = Field(0.001, ge=0, description="Weight of the sparsity loss, Eq. 8.")
    regularizer_warmup_steps: int = Field(100, ge=0, description="Steps over which those weights rise from 0.")


class TrainingConfig(Section):
    """Stage-one training on transformers.Trainer."""

    max_steps: int = Field(300, ge=1, description="Optimiser steps.")
    batch_tokens: int = Field(2560, ge=16, description="Stream tokens per device and step, before accumulation.")
    row_tokens: int | None = Field(
        None, ge=16, description="Stream tokens per packed row; unset: twice what the longest window needs."
    )
    gradient_accumulation_steps: int = Field(1, ge=1, description="Batches per optimiser step.")
    learning_rate: float = Field(2e-3, gt=0, description="Peak learning rate (AdamW).")
    warmup_steps: int = Field(50, ge=0, description="Steps of linear warm-up, before a cosine to zero.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW weight decay.")
    adam_beta2: float = Field(0.999, gt=0, lt=1, description="AdamW's decay of squared gradients.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    eval_steps: int = Field(100, ge=1, description="Steps between validations and checkpoints.")
    eval_users: int | None = Field(
        2000, ge=1, description="Validate on this many users, drawn once by the seed; unset: on all."
    )
    patience: int = Field(5, ge=1, description="Stop after this many validations without a better NDCG@10.")
    mixed_precision: Annotated[Literal["no", "bf16"], BeforeValidator(_unquoted_no)] = Field(
        "no", description="Autocast type."
    )
    n_threads: int | None = Field(None, ge=1, description="CPU threads; unset: torch decides.")


class PolicyConfig(Section):
    """Stage two, `flr train --stage grpo` (METHOD 7)."""

    reward: str = Field(
        "likelihood", description="Weighted sum of likelihood, ndcg@k, reciprocal_rank, ... or module:function."
    )
    advantage: Literal["group", "batch"] = Field(
        "group", description="Against the thoughts of one history, or against the noiseless thoughts of the batch."
    )
    update: Literal["latent", "token"] = Field(
        "latent", description="Ratio of the thoughts' Gaussian densities, or of the title's token likelihoods."
    )
    group_size: int = Field(8, ge=2, description="Thoughts per history G, the first without noise.")
    sigma: float = Field(2.0, gt=0, description="Noise of a thought, relative to the RMS of the input embeddings.")
    clip_low: float = Field(0.2, gt=0, lt=1, description="Ratios count down to 1 minus this.")
    clip_high: float = Field(0.2, gt=0, description="Ratios count up to 1 plus this.")
    beta: float = Field(0.01, ge=0, description="Weight of the divergence from the stage-one policy, Eq. 13.")
    updates_per_rollout: int = Field(1, ge=1, description="Optimiser steps on the same thoughts.")
    targets_per_row: int | None = Field(
        None, ge=1, description="Targets drawn from each packed row; unset: all, dear with rewards that rank."
    )
    train: Literal["reasoner", "lora"] = Field("reasoner", description="Leave the backbone as it is, or add LoRA.")
    max_steps: int = Field(100, ge=1, description="Optimiser steps.")
    batch_tokens: int = Field(2560, ge=16, description="Stream tokens per device and step, before accumulation.")
    gradient_accumulation_steps: int = Field(1, ge=1, description="Batches per optimiser step.")
    learning_rate: float = Field(1e-4, gt=0, description="Peak learning rate (AdamW).")
    warmup_steps: int = Field(5, ge=0, description="Steps of linear warm-up, before a cosine to zero.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    eval_steps: int = Field(20, ge=1, description="Steps between validations, of which the guard keeps the best.")
    max_drop: float = Field(
        0.02, ge=0, description="Relative fall of NDCG@10 below the best at which the guard rolls back."
    )
    patience: int = Field(3, ge=1, description="Stop after this many validations without a better NDCG@10.")

    @model_validator(mode="after")
    def _check_steps(self) -> PolicyConfig:
        if self.eval_steps % self.updates_per_rollout:
            raise ValueError(
                f"grpo.eval_steps {self.eval_steps} must be a multiple of grpo.updates_per_rollout "
                f"{self.updates_per_rollout}, so that a resumed run draws the same thoughts"
            )
        return self


class NetworkConfig(Section):
    """A sequential network over item identities, and its training; base of those who have one."""

    width: int = Field(64, ge=4, description="Width of item embeddings and states.")
    n_layers: int = Field(2, ge=1, description="Layers (transformers).")
    n_heads: int = Field(2, ge=1, description="Attention heads (transformers).")
    dropout: float = Field(0.3, ge=0, lt=1, description="Dropout.")
    learning_rate: float = Field(3e-3, gt=0, description="Learning rate (AdamW).")
    weight_decay: float = Field(0.01, ge=0, description="AdamW weight decay.")
    batch_targets: int = Field(1024, ge=1, description="Targets of a batch, about.")
    sampled_items: int | None = Field(
        16384, ge=1, description="Items drawn for each batch's softmax where there are more in all; unset: all, always."
    )
    max_epochs: int = Field(200, ge=1, description="Passes over all training targets.")
    patience: int = Field(5, ge=1, description="Stop after this many epochs without a better NDCG@10 on validation.")

    @model_validator(mode="after")
    def _check_heads(self) -> NetworkConfig:
        if self.width % self.n_heads:
            raise ValueError(f"width {self.width} must be a multiple of n_heads {self.n_heads}")
        return self


class EaseConfig(Section):
    """EASE: which items go with which, as a regression of each on all others (Steck 2019)."""

    l2: float = Field(200.0, gt=0, description="Ridge penalty, in people: more of it trusts rare pairs less.")
    decay: float = Field(0.9, gt=0, le=1, description="Weight of an item of the history relative to its successor.")
    n_neighbours: int = Field(100, ge=1, description="Weights kept of each item, the largest.")
    most_items: int = Field(16384, ge=1, description="Items that take part, the most popular: a matrix of all pairs.")


class AssistantConfig(NetworkConfig):
    """A second opinion on what factors vote for, by models of item identities (D3's text-free assistant)."""

    networks: tuple[Literal["gru4rec", "sasrec", "ease"], ...] = Field(
        ("sasrec", "gru4rec", "ease"),
        description="Whose opinions are multiplied, a network named twice with two seeds; none without a memory.",
    )
    recurrent_learning_rate: float = Field(1e-2, gt=0, description="Learning rate of gru4rec, which bears more.")
    ease: EaseConfig = EaseConfig()

    @model_validator(mode="after")
    def _check_networks(self) -> AssistantConfig:
        if self.networks.count("ease") > 1:
            raise ValueError("networks names ease twice, which would say the same twice")
        return self


class EvaluationConfig(Section):
    """Ranking of the whole catalogue."""

    cutoffs: tuple[int, ...] = Field((5, 10, 20), min_length=1, description="Cutoffs k of the metrics.")
    seen_items: Literal["exclude", "include"] = Field(
        "exclude", description="Whether items of the user's whole history may be recommended again."
    )
    ranking: Literal["exact", "best", "beam"] = Field(
        "exact", description="Rank all items; exactly too, but as far as the cutoffs; or what a beam finds."
    )
    beam_width: int = Field(20, ge=1, description="Titles and prefixes that go on (beam); at least the largest cutoff.")
    length_power: float = Field(
        0.0, ge=0, description="Beams compare log p / tokens ** length_power; 1 as BIGRec, 0 as D3."
    )
    guide: Literal["none", "last_item_markov"] = Field(
        "none", description="Recommender whose opinion is added to every beam (D3)."
    )
    guide_weight: float = Field(0.25, gt=0, description="Weight of its log-probability; (1 - alpha) / alpha of D3.")
    memory_mb: int | None = Field(
        None, ge=16, description="Memory budget of one scoring forward, MiB; unset: 64 on a CPU, 2048 on a GPU."
    )

    @model_validator(mode="after")
    def _check_ranking(self) -> EvaluationConfig:
        if self.ranking != "beam" and self.guide != "none":
            raise ValueError(f"evaluation.guide {self.guide!r} guides a beam; set evaluation.ranking to beam")
        if self.ranking == "beam" and self.beam_width < max(self.cutoffs):
            raise ValueError(
                f"evaluation.beam_width {self.beam_width} finds fewer items than the largest of "
                f"evaluation.cutoffs, {max(self.cutoffs)}; widen it or drop that cutoff"
            )
        return self


class Config(Section):
    """All settings of a run."""

    version: int = Field(CONFIG_VERSION, description="Version of this file's layout.")
    seed: int = Field(0, ge=0, description="Seed of every random stream.")
    text: TextConfig = TextConfig()
    backbone: BackboneConfig = BackboneConfig()
    reasoner: ReasonerConfig = ReasonerConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    training: TrainingConfig = TrainingConfig()
    assistant: AssistantConfig = AssistantConfig()
    grpo: PolicyConfig = PolicyConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def is_assisted(self) -> bool:
        """Whether an assistant is trained beside the model."""
        return self.reasoner.has_memory and bool(self.assistant.networks)

    @model_validator(mode="after")
    def _check_widths(self) -> Config:
        compact, reasoner = self.backbone, self.reasoner
        if compact.source == "compact" and compact.width % (2 * compact.n_heads):
            raise ValueError(
                f"backbone.width {compact.width} must be a multiple of 2 x n_heads = {2 * compact.n_heads}"
            )
        is_divided = not reasoner.full_width_factors and reasoner.factor_width is None
        if compact.source == "compact" and is_divided and compact.width % reasoner.n_factors:
            raise ValueError(f"backbone.width {compact.width} must be a multiple of n_factors = {reasoner.n_factors}")
        if compact.source == "compact" and compact.train != "full":
            raise ValueError(f"backbone.train {compact.train!r} needs pretrained weights; compact starts from scratch")
        return self

    @model_validator(mode="after")
    def _check_template(self) -> Config:
        if self.text.template == "instruction" and not self.text.response_header:
            raise ValueError(
                f"text.response_header {self.text.response_header!r} leaves nothing after the titles; give it a text, "
                "or set text.template to append_only and text.preamble to what comes before them"
            )
        return self


def load_config(
    path: Path | str | None = None, overrides: Iterable[str] = (), defaults: Mapping[str, Any] | None = None
) -> Config:
    """Return the settings of `defaults`, then of the file, then of the overrides.

    Args:
        path: YAML or JSON file; None starts from the defaults. The ``config.yaml`` of a run means what it did then.
        overrides: ``section.key=value`` strings; values are read as YAML.
        defaults: Nested settings that the file overrides.

    Raises:
        ConfigError: The file is missing or not a mapping, a key is unknown, a value is out of range, or the
            file was written by another version.
    """
    path = None if path is None else Path(path)
    of_run = path is not None and path.name == "config.yaml" and path.with_name("run.json").exists()
    return parse_config(read_settings(path, overrides, defaults, meant=as_trained if of_run else dict))


def parse_config(settings: Mapping[str, Any]) -> Config:
    """Return checked settings; see `load_config` for what is raised."""
    version = settings.get("version", CONFIG_VERSION)
    if version != CONFIG_VERSION:
        raise ConfigError(
            f"this config has version {version!r}, this flr reads version {CONFIG_VERSION}; "
            "remove the keys that changed (see CHANGELOG.md) and set version accordingly"
        )
    return checked(Config, settings)


def as_trained(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a saved run with those that came later, as they were when nobody could set them."""
    assistant = dict(settings.get("assistant", {"networks": []}))
    if "kind" in assistant:
        kind = assistant.pop("kind")
        assistant["networks"] = [] if kind == "none" else [kind]
    if "gru4rec" in assistant.get("networks", ()):
        assistant.setdefault("recurrent_learning_rate", assistant.get("learning_rate", NetworkConfig().learning_rate))
    return {**settings, "reasoner": _FORMERLY | settings.get("reasoner", {}), "assistant": assistant}


def parse_saved(settings: Mapping[str, Any]) -> Config:
    """Return the checked settings of a saved run, as they were meant; see `load_config` for what is raised."""
    return parse_config(as_trained(settings))


def describe_settings(section: type[BaseModel] = Config, prefix: str = "") -> list[tuple[str, str, str]]:
    """Return (key, default, meaning) of every setting, for `--help` and the docs."""
    rows: list[tuple[str, str, str]] = []
    for name, info in section.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            rows += describe_settings(annotation, f"{prefix}{name}.")
        else:
            choices = get_args(annotation) if getattr(annotation, "__origin__", None) is Literal else ()
            meaning = (info.description or "") + (f" [{' | '.join(map(str, choices))}]" if choices else "")
            rows.append((prefix + name, _in_one_line(str(info.default)), meaning))
    return rows


def _in_one_line(text: str) -> str:
    """Return a default as a table shows it; longer ones stand in full in ``configs/compact.yaml``."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_DEFAULT else f"{line[: _LONGEST_DEFAULT - 1]}…"
