"""Recommender: raw histories of anyone in, titles of the whole catalogue out; items come and go while it serves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, Self

import torch

from flr.arguments import check_choice, check_histories, check_k
from flr.catalogue.editing import NewItems
from flr.catalogue.filters import AllowedItems, ItemFilter
from flr.compiled import CompiledCatalogue, compile_catalogue
from flr.config import Config
from flr.errors import DataError, RequestError
from flr.lists import Asked, Recommendation, best_lists
from flr.live import CatalogueEdit, LiveCatalogue, TitleNotes
from flr.model import FLRModel
from flr.records import Catalogue, FloatArray, Histories
from flr.saving import SavedParts, load_parts, save_parts
from flr.snapshot import Snapshot, Thinker
from flr.steering import FactorWeights
from flr.text.tokenizer import TitleTokenizer
from flr.thoughts import ThoughtState

__all__ = ["Recommendation", "Recommender"]


class Recommender:
    """A trained model with its live catalogue.

    Safe to share among threads: a request sees the catalogue as it was when the request began, and edits wait for
    one another.

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
        self._edits = threading.Lock()
        self._live = LiveCatalogue.of(catalogue, partial(_compile, tokenizer=tokenizer, config=config, model=model))

    @property
    def snapshot(self) -> Snapshot:
        """The model with the catalogue of this moment, for several questions about one and the same catalogue."""
        return Snapshot(self.model, self.config, self._live)

    def frozen(self) -> Self:
        """Return the same model with the catalogue of this moment: what is edited here is not seen there."""
        return copy(self)

    @property
    def compiled(self) -> CompiledCatalogue:
        return self._live.compiled

    @property
    def catalogue(self) -> Catalogue:
        return self._live.catalogue

    def add_items(self, items: NewItems, *, commit: Callable[[], None] | None = None) -> CatalogueEdit:
        """Recommend new items from now on, by their titles; nothing is trained.

        All are added or none. A removed item comes back at its old index, with what is given now.

        Args:
            items: A polars frame, or one mapping per item: ``item_id``, ``title`` and attributes the catalogue has.
            commit: Called when the edit is known to be right and not yet seen, as a journal wants; if it raises,
                nothing changes.

        Returns:
            The indices of the items, and notes on titles that were cut or hold tokens the model has never met.

        Raises:
            ColumnError: An item has no ``item_id`` or ``title``, or an attribute that the catalogue has not.
            DataError: An id is missing, given twice or recommended already, a title has nothing readable, or an
                attribute is of another type than the catalogue's.
        """
        notes_of = TitleNotes(
            self.tokenizer, self.config.text.max_title_tokens, self.config.backbone.source == "compact"
        )
        with self._edits:
            after, edit = self._live.with_items(items, notes_of)
            if commit is not None:
                commit()
            self._live = after
        return edit

    def remove_items(self, item_ids: Collection[str], *, commit: Callable[[], None] | None = None) -> None:
        """Recommend items no longer; histories that hold them can still be read, and indices stay as they are.

        Args:
            item_ids: Their ids.
            commit: See `add_items`.

        Raises:
            UnknownItemError: No item has an id.
            RequestError: An item has been removed before, or the ids are no list.
            DataError: Nothing would be left to recommend.
        """
        with self._edits:
            after = self._live.without_items(item_ids)
            if commit is not None:
                commit()
            self._live = after

    def restore(self, snapshot: Snapshot) -> None:
        """Recommend what an earlier snapshot of this recommender does, as if nothing had been edited since."""
        with self._edits:
            self._live = snapshot.live

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        by: Literal["id", "title"] = "id",
        exclude_seen: bool = True,
        unknown: Literal["error", "skip"] = "error",
        empty: Literal["error", "popular"] = "error",
        filters: ItemFilter | Sequence[ItemFilter | None] | None = None,
        factor_weights: FactorWeights | None = None,
        diversify: Literal["factors"] | None = None,
    ) -> list[list[Recommendation]]:
        """Return the k most probable items for each history, best first; fewer where fewer are left.

        Args:
            histories: What each person took, oldest first; only the last `config.text.window` items are read.
            k: Items per history.
            by: Whether histories hold item ids or titles.
            exclude_seen: Leave out the items of the history (of the whole history, not just the window).
            unknown: What to do with items that are not in the catalogue, in histories and filters, and with values
                of attributes that no item has. Where they are skipped, a history of nothing else has an empty list.
            empty: ``"popular"``: histories without a known item, such as those of new people, have the list of what was
                taken most often in training, with the shares that items had of it as probabilities.
            filters: What may be recommended; one for all histories, or one each (None: everything). The k best that
                may are found exactly; their probabilities remain those over the whole catalogue.
            factor_weights: Multiplier of each factor's gate, for all histories or one row each, at least 0; 0 turns a
                factor off, 2 doubles it.
            diversify: ``"factors"``: each factor alone ranks the catalogue (its gate multiplied by K, the others by
                0), and factors pick in turn, the one with the largest gate first, what nobody picked before. Then
                `factor_weights` change the order of picking, and a factor of weight 0 picks nothing.

        Raises:
            RequestError: k is no whole number or below 1, `by`, `unknown` or `empty` is none of the choices, the
                histories or one of them are no list, an item is no text, a history is empty, or shall have what is
                popular of a model without a memory, filters are no `ItemFilter`, are not one per history or name an
                unknown attribute or value, there is not one factor weight per factor (and history), one is negative or
                not finite, or factors shall pick of a model without any, or where all have the weight 0.
            UnknownItemError: An item is not in the catalogue and `unknown` is ``"error"``.
        """
        check_k(k)
        check_choice(by, "by", ("id", "title"))
        check_choice(unknown, "unknown", ("error", "skip"))
        check_choice(empty, "empty", ("error", "popular"))
        if diversify not in (None, "factors"):
            raise RequestError(f"diversify = {diversify!r}, expected 'factors' or None")
        check_histories(histories)
        histories = list(histories)
        if not histories:
            return []
        now = self.snapshot
        popular = empty == "popular"
        indices = now.live.lookup.histories(histories, by=by, unknown=unknown, keeps_skipped=True, keeps_empty=popular)
        allowed = now.live.allowed(filters, len(indices), unknown=unknown)
        asked = Asked(indices, k, exclude_seen, factor_weights, allowed, diversify, popular)
        return best_lists(now, asked)

    def resolve(self, histories: Sequence[Sequence[str]], *, by: str = "id", unknown: str = "error") -> Histories:
        """Return histories as item indices, which edits never change; arguments and errors as `recommend`.

        Raises:
            RequestError: Also where a history holds unknown items only.
        """
        return self._live.lookup.histories(histories, by=by, unknown=unknown)

    def unknown_items(self, histories: Sequence[Sequence[str]], *, by: str = "id") -> list[list[str]]:
        """Return the items of each history that are not in the catalogue: those that ``unknown="skip"`` skips.

        Args:
            histories: Ids or titles.
            by: Which of the two, ``"id"`` or ``"title"``.

        Raises:
            RequestError: `by` is neither of the two, or the histories or one of them are no list.
        """
        check_choice(by, "by", ("id", "title"))
        check_histories(histories)
        lookup = self._live.lookup
        return [lookup.unknown(history, by) for history in histories]

    def item_index(self, item: str, *, by: str = "id") -> int:
        """Return the index of an item; of several that share a title, the first.

        Args:
            item: Its id or title.
            by: Which of the two, ``"id"`` or ``"title"``.

        Raises:
            UnknownItemError: It is not in the catalogue.
            RequestError: It is no text, or `by` is neither of the two.
        """
        return self._live.lookup.index(item, by=by)

    def score(
        self, histories: Histories, *, factor_weights: FactorWeights | None = None, think: Thinker | None = None
    ) -> FloatArray:
        """Return log p(item | history) over the whole catalogue, float32, [B, N]; -inf at removed items.

        Histories are sorted by length and scored in batches that keep to `config.evaluation.memory_mb`.

        Args:
            histories: Item indices, oldest first, none empty.
            factor_weights: Multipliers of the gates; see `recommend`.
            think: Thinks in the model's place, as interventions do; it gets no factor weights.
        """
        return self.snapshot.score(histories, factor_weights=factor_weights, think=think)

    def score_best(
        self,
        histories: Histories,
        k: int,
        *,
        exclude_seen: bool,
        factor_weights: FactorWeights | None = None,
        allowed: AllowedItems | None = None,
        think: Thinker | None = None,
    ) -> FloatArray:
        """Return what `score` does for the k best items of each history at least, and -inf for others, [B, N].

        Much cheaper than scoring all: only the part of the trie is read that can still reach the k best.

        Args:
            histories: Item indices, oldest first, none empty.
            k: Items per history that are wanted.
            exclude_seen: Items of the (whole) history are -inf and make room for others.
            factor_weights: Multipliers of the gates; see `recommend`.
            allowed: Items that are not allowed are -inf too and make room; None allows all.
            think: As for `score`.
        """
        return self.snapshot.score_best(
            histories, k, exclude_seen=exclude_seen, factor_weights=factor_weights, allowed=allowed, think=think
        )

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
        return self.snapshot.score_beam(histories, exclude_seen=exclude_seen, guide=guide)

    def think(self, histories: Histories, factor_weights: FactorWeights | None = None) -> ThoughtState:
        """Read histories (cut to the window) and think once at the end of each; votes have heard the assistant.

        Args:
            histories: Item indices, oldest first, none empty.
            factor_weights: Multipliers of the gates; see `recommend`.

        Returns:
            What `FLRModel.score` makes the same scores of as `score`; its tensors have no gradients.
        """
        return self.snapshot.think_advised(histories, factor_weights)

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write the recommender, with the catalogue of this moment, into a folder: whole or not at all.

        Raises:
            ArtifactError: The folder exists and `overwrite` is False.
            StorageError: The disk refused; what was there before is untouched.
        """
        live = self._live
        catalogue = replace(live.catalogue, barred=live.attributes.barred)
        parts = SavedParts(self.model, self.tokenizer, catalogue, self.config)
        save_parts(parts, Path(path), overwrite=overwrite)

    @classmethod
    def load(cls, path: Path | str, *, device: str | torch.device | None = None) -> Recommender:
        """Return a saved recommender.

        Args:
            path: A folder that `save` wrote, or a run folder that holds one in ``model/``.
            device: Where to put it; None takes a GPU where there is one.

        Raises:
            ArtifactError: The folder is missing, half-written, corrupt or of another version.
        """
        parts = load_parts(Path(path), device)
        return cls(parts.model, parts.tokenizer, parts.catalogue, parts.config)


def _compile(
    catalogue: Catalogue,
    before: CompiledCatalogue | None,
    *,
    tokenizer: TitleTokenizer,
    config: Config,
    model: FLRModel,
) -> CompiledCatalogue:
    compiled = compile_catalogue(
        catalogue,
        tokenizer,
        likelihood=config.objective.likelihood,
        max_title_tokens=config.text.max_title_tokens,
        lends=None if model.memory is None else model.memory.transitions.popularity > 0,
        before=before,
    )
    n_places, window = model.backbone.n_places, config.text.window
    longest = compiled.template.longest(window, model.n_thoughts)
    if n_places is not None and longest > n_places:
        raise DataError(
            f"{window} titles of up to {compiled.template.titles.lengths.max()} tokens make texts of {longest:,} "
            f"tokens; the backbone has learnt {n_places:,} places; lower text.window or text.max_title_tokens"
        )
    return compiled.to(model.device)
