"""Recommender: raw histories of anyone in, titles of the whole catalogue out; saved as safetensors and JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flr.backbone.loading import architecture, backbone_from_config, merge_lora
from flr.blocks import BLOCK, SHARED_COLUMNS, whole_blocks
from flr.catalogue.titles import build_catalogue, clean_title
from flr.compiled import compile_catalogue
from flr.config import Config, parse_config
from flr.errors import ArtifactError, RequestError, UnknownItemError, nearest
from flr.model import FLRModel, ThoughtState, build_reasoner
from flr.persistence import new_folder, read_json, write_json
from flr.records import ITEM_ID, TITLE, Catalogue, FloatArray, Histories, IntArray
from flr.scoring.beam import Beam, allowed_nodes, title_guide
from flr.scoring.exact import item_log_probs
from flr.scoring.ranking import top_items
from flr.text.tokenizer import TitleTokenizer

#: Layout of a saved recommender; raised when older folders become unreadable.
FORMAT_VERSION = 1
_META, _WEIGHTS, _TOKENIZER, _ITEMS = "recommender.json", "model.safetensors", "tokenizer.json", "items.parquet"
_META_KEYS = ("config", "architecture", "tied", "n_items")
#: Memory of one scoring forward, MiB, where the settings name none: what fits a processor's caches is fastest there.
_CPU_MB, _GPU_MB = 64, 2048
#: Trie nodes that finding one of the best items takes, about; measured 1.2 on MovieLens-100K.
_NODES_PER_ITEM = 2
#: Takes histories cut to the window, and their places among all that are scored; reads them and thinks.
Thinker = Callable[[Histories, IntArray], ThoughtState]


@dataclass(frozen=True)
class Recommendation:
    """One recommended item.

    Attributes:
        item_id: The item's own id.
        title: Its cleaned title.
        probability: p(item | history) over the whole catalogue, in [0, 1].
        log_prob: Its natural logarithm.
    """

    item_id: str
    title: str
    probability: float
    log_prob: float


class Recommender:
    """A trained model with its catalogue.

    Args:
        model: The trained model; put into evaluation mode.
        tokenizer: Turns titles into tokens.
        catalogue: Items and titles.
        config: Settings the model was trained with.
    """

    name = "flr"

    def __init__(self, model: FLRModel, tokenizer: TitleTokenizer, catalogue: Catalogue, config: Config) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.config = config
        self.compiled = compile_catalogue(
            catalogue,
            tokenizer,
            likelihood=config.objective.likelihood,
            max_title_tokens=config.text.max_title_tokens,
        ).to(model.device)
        self._index_of_id = {item_id: index for index, item_id in enumerate(catalogue.item_ids)}
        self._items_of_title: dict[str, list[int]] = {}
        for index, title in enumerate(catalogue.titles):
            self._items_of_title.setdefault(title, []).append(index)

    @property
    def catalogue(self) -> Catalogue:
        return self.compiled.catalogue

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        by: Literal["id", "title"] = "id",
        exclude_seen: bool = True,
        unknown: Literal["error", "skip"] = "error",
        factor_weights: Sequence[float] | None = None,
    ) -> list[list[Recommendation]]:
        """Return the k most probable items for each history, best first.

        Args:
            histories: What each person took, oldest first; only the last `config.text.window` items are read.
            k: Items per history.
            by: Whether histories hold item ids or titles.
            exclude_seen: Leave out the items of the history (of the whole history, not just the window).
            unknown: What to do with items that are not in the catalogue.
            factor_weights: Multiplier of each factor's gate; 0 turns a factor off, 2 doubles it.

        Raises:
            RequestError: k is below 1, a history is empty (or holds unknown items only), or there is not one
                factor weight per factor.
            UnknownItemError: An item is not in the catalogue and `unknown` is ``"error"``.
        """
        if k < 1:
            raise RequestError(f"k = {k}, expected at least 1")
        if not histories:
            return []
        indices = self.resolve(histories, by=by, unknown=unknown)
        scores = self.score_best(indices, k, exclude_seen=exclude_seen, factor_weights=factor_weights)
        ranking = top_items(torch.from_numpy(scores), k)
        return [
            [
                self._recommendation(int(item), float(log_prob))
                for item, log_prob in zip(items, values, strict=True)
                if item >= 0
            ]
            for items, values in zip(ranking.item_index, ranking.log_probs, strict=True)
        ]

    def _recommendation(self, item: int, log_prob: float) -> Recommendation:
        catalogue = self.catalogue
        return Recommendation(
            str(catalogue.item_ids[item]), str(catalogue.titles[item]), float(np.exp(log_prob)), log_prob
        )

    def resolve(self, histories: Sequence[Sequence[str]], *, by: str = "id", unknown: str = "error") -> Histories:
        """Return histories as item indices; see `recommend` for arguments and what is raised."""
        rows: list[list[int]] = []
        for number, history in enumerate(histories):
            found = [self._find(item, by) for item in history]
            if unknown == "error" and None in found:
                raise self._unknown(str(history[found.index(None)]), by, number)
            known = [item for item in found if item is not None]
            if not known:
                what = "is empty" if not len(history) else "holds unknown items only"
                raise RequestError(f"history number {number} {what}; give at least one known item")
            rows.append(known)
        offsets = np.cumsum([0, *map(len, rows)])
        return Histories(np.array([item for row in rows for item in row]), offsets)

    def _find(self, item: str, by: str) -> int | None:
        if by == "id":
            return self._index_of_id.get(item)
        matches = self._items_of_title.get(item) or self._items_of_title.get(clean_title(item))
        return matches[0] if matches else None

    def _unknown(self, item: str, by: str, number: int) -> UnknownItemError:
        known = self._index_of_id if by == "id" else self._items_of_title
        hint = nearest(item, list(known)) if len(known) < 200_000 else "check the spelling"
        other = "title" if by == "id" else "id"
        return UnknownItemError(
            f"history number {number}: no item has the {by} {item!r}; {hint} "
            f"(to give {other}s instead, say by={other!r})"
        )

    def score(
        self,
        histories: Histories,
        *,
        factor_weights: Sequence[float] | None = None,
        think: Thinker | None = None,
    ) -> FloatArray:
        """Return log p(item | history) over the whole catalogue, float32, [B, N].

        Histories are sorted by length and scored in batches that keep to `config.evaluation.memory_mb`.

        Args:
            histories: Item indices, oldest first, none empty.
            factor_weights: Multiplier of each factor's gate.
            think: Thinks in the model's place, as interventions do; it gets no factor weights.
        """
        return self._score(
            histories,
            self._rows_per_forward(histories, max((len(part.nodes) for part in self.compiled.slices), default=1)),
            factor_weights,
            lambda state, _: self.model.score(state, self.compiled),
            think,
        )

    def score_best(
        self, histories: Histories, k: int, *, exclude_seen: bool, factor_weights: Sequence[float] | None = None
    ) -> FloatArray:
        """Return what `score` does for the k best items of each history at least, and -inf for others, [B, N].

        Much cheaper than scoring all: only the part of the trie is read that can still reach the k best.

        Args:
            histories: Item indices, oldest first, none empty.
            k: Items per history that are wanted.
            exclude_seen: Items of the (whole) history are -inf and make room for others.
            factor_weights: Multiplier of each factor's gate.
        """
        k = min(k, self.catalogue.n_items)

        def scored(state: ThoughtState, rows: IntArray) -> Tensor:
            seen = self._seen(histories.take(rows), exclude_seen)

            def candidates(found: Tensor, members: Tensor) -> Tensor:
                items = item_log_probs(found, self.compiled.leaf, self.compiled.n_sharing)
                return items.masked_fill_(seen[members], -torch.inf)

            def floor(found: Tensor, members: Tensor) -> Tensor:
                return candidates(found, members).topk(k, dim=1).values[:, -1]

            found = self.model.score_above(state, self.compiled, floor)
            return candidates(found, torch.arange(len(rows), device=found.device))

        return self._score(histories, self._rows_per_forward(histories, _NODES_PER_ITEM * k), factor_weights, scored)

    def score_beam(
        self, histories: Histories, *, exclude_seen: bool, guide: Callable[[Histories], FloatArray] | None = None
    ) -> FloatArray:
        """Return the scores of what a beam search finds for each history, and -inf for others, [B, N].

        Width, length normalisation and the guide's weight are those of `config.evaluation`. Without normalisation and
        guide the scores are exact log-probabilities; with them they are what the search orders titles by. Items that
        share a title share its probability.

        Args:
            histories: Item indices, oldest first, none empty.
            exclude_seen: Items of the (whole) history are -inf, and titles of such items only make room for others.
            guide: Another recommender, histories -> log-probabilities of items, [B, N].
        """
        settings, compiled = self.config.evaluation, self.compiled
        lengths = torch.from_numpy(compiled.template.titles.lengths).to(self.model.device)
        shares = compiled.n_sharing.log() / lengths**settings.length_power

        def scored(state: ThoughtState, rows: IntArray) -> Tensor:
            of_rows = histories.take(rows)
            seen = self._seen(of_rows, exclude_seen)
            beam = Beam(settings.beam_width, settings.length_power)
            if exclude_seen:
                beam = replace(beam, allowed=allowed_nodes(self._by_leaf((~seen).int()) > 0, compiled.trie))
            if guide is not None:
                opinion = torch.tensor(guide(of_rows), device=self.model.device)
                by_title = title_guide(self._by_leaf(opinion.double().exp()).log(), compiled.trie)
                beam = replace(beam, guide=by_title, guide_weight=settings.guide_weight)
            found = self.model.search(state, compiled, beam)
            leaves = torch.full((len(rows), compiled.catalogue.n_leaves + 1), -torch.inf, device=seen.device)
            leaves.scatter_(1, torch.where(found.leaves < 0, leaves.shape[1] - 1, found.leaves), found.scores)
            return (leaves[:, :-1] - shares)[:, compiled.leaf].masked_fill_(seen, -torch.inf)

        n_nodes = settings.beam_width * int(lengths.max())
        return self._score(histories, self._rows_per_forward(histories, n_nodes), None, scored)

    def _seen(self, histories: Histories, exclude_seen: bool) -> Tensor:
        """Return True at the items that each history rules out, [B, N]."""
        seen = torch.zeros(len(histories), self.catalogue.n_items, dtype=torch.bool)
        if exclude_seen:
            seen[np.repeat(np.arange(len(histories)), histories.lengths), histories.item_index] = True
        return seen.to(self.model.device)

    def _by_leaf(self, of_items: Tensor) -> Tensor:
        """Return sums over the items of each title, [B, N] -> [B, n_leaves]."""
        sums = of_items.new_zeros(len(of_items), self.catalogue.n_leaves)
        return sums.index_add_(1, self.compiled.leaf, of_items)

    def _score(
        self,
        histories: Histories,
        n_rows: int,
        factor_weights: Sequence[float] | None,
        scored: Callable[[ThoughtState, IntArray], Tensor],
        think: Thinker | None = None,
    ) -> FloatArray:
        """Score histories of similar length together, `n_rows` at a time."""
        weights = self._factor_weights(factor_weights)
        recent = histories.window(self.config.text.window)
        order = np.argsort(recent.lengths, kind="stable")
        out = np.empty((len(histories), self.catalogue.n_items), dtype=np.float32)
        with torch.inference_mode():
            for rows in self._together(order, recent, n_rows):
                read = recent.take(rows)
                state = self.think(read, weights) if think is None else think(read, rows)
                out[rows] = scored(state, rows).float().cpu().numpy()
        return out

    def _together(self, order: IntArray, histories: Histories, n_rows: int) -> list[IntArray]:
        """Return runs of at most `n_rows` histories that are read together; long ones only with their like.

        On a CPU a long history's last bits would depend on how far it is padded, see `flr.blocks`.
        """
        lengths = [whole_blocks(int(n)) for n in self.compiled.template.streams(histories).lengths[order]]
        most = SHARED_COLUMNS - 2 * BLOCK if self.model.device.type == "cpu" else max(lengths, default=0)
        runs, start = [], 0
        for end in range(1, len(order) + 1):
            unlike = end < len(order) and lengths[start] != lengths[end] > most
            if end == len(order) or end - start == n_rows or unlike:
                runs.append(order[start:end])
                start = end
        return runs

    def think(self, histories: Histories, factor_weights: Tensor | None = None) -> ThoughtState:
        """Read histories (cut to the window) and think once at the end of each."""
        self.model.eval()
        streams = self.model.read(self.compiled.template.streams(histories.window(self.config.text.window)))
        return self.model.think(streams, factor_weights)

    def _factor_weights(self, factor_weights: Sequence[float] | None) -> Tensor | None:
        if factor_weights is None:
            return None
        n_factors = 0 if self.model.reasoner is None else self.model.reasoner.n_factors
        if len(factor_weights) != n_factors:
            raise RequestError(f"got {len(factor_weights)} factor weights, this model has {n_factors} factors")
        return torch.tensor(factor_weights, dtype=torch.float32, device=self.model.device)

    def _rows_per_forward(self, histories: Histories, n_nodes: int) -> int:
        """Return how many histories one forward may take within the memory budget, with so many trie nodes each."""
        settings = self.model.backbone.transformer.config
        recent = histories.window(self.config.text.window)
        n_stream = int(self.compiled.template.streams(recent).lengths.max(initial=1)) + n_nodes
        per_node = 8 * settings.hidden_size + 3 * settings.intermediate_size + 2 * n_stream
        cache = 2 * settings.num_hidden_layers * settings.hidden_size * n_stream
        outputs = 2 * self.compiled.table.n_edges + 3 * self.catalogue.n_items
        bytes_per_row = 4 * int(n_nodes * per_node + cache + outputs)
        budget = self.config.evaluation.memory_mb or (_CPU_MB if self.model.device.type == "cpu" else _GPU_MB)
        return max(1, budget * 2**20 // bytes_per_row)

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write the recommender into a folder: safetensors, JSON and Parquet, whole or not at all.

        Raises:
            ArtifactError: The folder exists and `overwrite` is False.
            StorageError: The disk refused; what was there before is untouched.
        """
        weights = merge_lora(self.model.backbone)
        weights = {f"backbone.{name}": tensor for name, tensor in weights.items()}
        if self.model.reasoner is not None:
            weights |= {f"reasoner.{name}": tensor for name, tensor in self.model.reasoner.state_dict().items()}
        meta = {
            "format_version": FORMAT_VERSION,
            "config": self.config.model_dump(mode="json"),
            "architecture": architecture(self.model.backbone),
            "tied": self.model.backbone.output is None,
            "n_items": self.catalogue.n_items,
        }
        with new_folder(Path(path), overwrite=overwrite) as folder:
            save_file({name: tensor.contiguous().cpu() for name, tensor in weights.items()}, folder / _WEIGHTS)
            write_json(folder / _TOKENIZER, self.tokenizer.to_json())
            _items_frame(self.catalogue).write_parquet(folder / _ITEMS)
            write_json(folder / _META, meta)

    @classmethod
    def load(cls, path: Path | str, *, device: str | torch.device | None = None) -> Recommender:
        """Return a saved recommender.

        Args:
            path: A folder that `save` wrote, or a run folder that holds one in ``model/``.
            device: Where to put it; None takes a GPU where there is one.

        Raises:
            ArtifactError: The folder is missing, half-written, corrupt or of another version.
        """
        folder = Path(path)
        if not (folder / _META).exists() and (folder / "model" / _META).exists():
            folder = folder / "model"
        meta = read_json(folder / _META, "saved recommender")
        if meta.get("format_version") != FORMAT_VERSION:
            raise ArtifactError(
                f"{str(folder)!r} has format version {meta.get('format_version')!r}, this flr reads {FORMAT_VERSION}; "
                "train again, or install the flr that wrote it"
            )
        if missing := [name for name in _META_KEYS if name not in meta]:
            raise ArtifactError(f"{str(folder / _META)!r} lacks {missing[0]!r}, so it is damaged; train again")
        config = parse_config(meta["config"])
        tokenizer = TitleTokenizer.from_json(read_json(folder / _TOKENIZER, "tokenizer"))
        catalogue = build_catalogue(_read_items(folder / _ITEMS, meta))
        model = _build(meta, config)
        _load_weights(model, folder / _WEIGHTS)
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model.to(device), tokenizer, catalogue, config)


def _items_frame(catalogue: Catalogue) -> pl.DataFrame:
    frame = pl.DataFrame({ITEM_ID: list(catalogue.item_ids), TITLE: list(catalogue.titles)})
    if catalogue.attributes is None:
        return frame
    return frame.hstack(catalogue.attributes.drop(ITEM_ID, TITLE, strict=False))


def _read_items(path: Path, meta: dict[str, Any]) -> pl.DataFrame:
    try:
        items = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(f"{str(path)!r} cannot be read ({error}); train the model again") from error
    if len(items) != meta["n_items"]:
        raise ArtifactError(
            f"{str(path)!r} holds {len(items)} items, expected {meta['n_items']}; train the model again"
        )
    return items


def _build(meta: dict[str, Any], config: Config) -> FLRModel:
    dtype = torch.bfloat16 if config.backbone.dtype == "bfloat16" else torch.float32
    backbone = backbone_from_config(meta["architecture"], tied=meta["tied"]).to(dtype)
    return FLRModel(backbone, build_reasoner(config.reasoner, backbone))


def _load_weights(model: FLRModel, path: Path) -> None:
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{str(path)!r} cannot be read ({error}); it is missing or was cut short") from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise ArtifactError(f"{str(path)!r} does not fit the model that recommender.json describes: {first}") from error
