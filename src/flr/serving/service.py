"""The service: a recommender, its engine and its journal, and what can be asked of them. It knows nothing of HTTP."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import numpy as np

from flr.backbone.streams import EncodedStreams
from flr.errors import ClosedError, RequestError, UnknownItemError
from flr.explanation.attribution import explain
from flr.explanation.fidelity import fidelity, fidelity_cost
from flr.explanation.profiles import FactorProfiles, load_profiles
from flr.live import LiveCatalogue
from flr.recommender import Recommender
from flr.records import Histories
from flr.saving import saved_hash
from flr.serving.choices import AttributeChoices
from flr.serving.contract import Attribute, ExplainRequest, Item, NewItem, RecommendRequest
from flr.serving.engine import Engine
from flr.serving.journal import Record
from flr.serving.listing import Listing, items_of
from flr.serving.questions import EngineSettings, Lists, Question
from flr.serving.replay import replayed
from flr.serving.resolving import is_retired, item_filter, resolve
from flr.serving.settings import ServeSettings
from flr.serving.weights import reduce_weights
from flr.snapshot import Snapshot
from flr.text.template import TokenStreams

T = TypeVar("T")
#: Histories that an explanation reads before it pauses: as quick as more of them, and a pause each tenth of a second.
_ROWS_BETWEEN_PAUSES: Final = 8


@dataclass(frozen=True)
class Accepted(Generic[T]):
    """A question that will be answered.

    Attributes:
        answer: The answer to come.
        skipped: What is not in the catalogue and was skipped.
        version: Version of the catalogue that is asked.
    """

    answer: Future[T]
    skipped: list[Any]
    version: int


@dataclass(frozen=True)
class Edited:
    """An edit that is made.

    Attributes:
        version: Version of the catalogue that it led to.
        notes: What should be known about new items.
    """

    version: int
    notes: tuple[str, ...] = ()


class _Pausing(Recommender):
    """A frozen recommender, which pauses before it reads.

    Args:
        recommender: The recommender.
        pause: Returns when it may go on, or raises where it should not.
    """

    def __init__(self, recommender: Recommender, pause: Callable[[], None]) -> None:
        vars(self).update(vars(recommender.frozen()))
        self._pause = pause

    @property
    def snapshot(self) -> Snapshot:
        return replace(super().snapshot, reader=self._read, max_rows=_ROWS_BETWEEN_PAUSES)

    def _read(self, streams: TokenStreams) -> EncodedStreams:
        self._pause()
        return self.model.read(streams)


class Service:
    """What a server does.

    Args:
        recommender: The model and its catalogue, as saved; edits of the journal are made again.
        settings: How to serve.
        run: Folder of the run, for its profiles; None has none.

    Attributes:
        overlap: Share of the top 10 that reduced weights have in common with full ones; None with full ones.
        model_id: Of the saved model and its items: another one has another id. One that is not saved has a new id at
            every start.
    """

    def __init__(self, recommender: Recommender, settings: ServeSettings, run: Path | None = None) -> None:
        self.recommender, self.settings = recommender, settings
        self.profiles: FactorProfiles | None = load_profiles(run) if run is not None else None
        self.model_id = secrets.token_hex(6) if run is None else saved_hash(run)[:12]
        self.overlap = reduce_weights(recommender, settings.weights, settings.min_overlap)
        self._edits, self._closed = threading.Lock(), False
        self._journal = None if settings.journal is None else replayed(recommender, settings.journal)
        n_edits = 0 if self._journal is None else self._journal.n_edits
        self._n_earlier = n_edits - self.live.version
        self._listing, self._choices = Listing(), AttributeChoices()
        self.engine = Engine(
            recommender,
            EngineSettings(
                max_batch=settings.max_batch,
                wait_seconds=settings.wait_ms / 1000,
                max_queued=settings.max_queued,
                cache_tokens=settings.cache_tokens,
                batches=settings.batches,
            ),
        )

    @classmethod
    def load(cls, run: Path, settings: ServeSettings) -> Service:
        """Return the service of a run folder."""
        return cls(Recommender.load(run), settings, run)

    @property
    def live(self) -> LiveCatalogue:
        return self.recommender.snapshot.live

    @property
    def version(self) -> int:
        """Rises with every edit; where there is a journal it counts all edits ever made."""
        return self.version_of(self.live)

    def version_of(self, live: LiveCatalogue) -> int:
        """Return the version of one state of the catalogue."""
        return self._n_earlier + live.version

    @property
    def n_items(self) -> int:
        """Items that are recommended now."""
        return self.live.n_recommended

    def recommend(self, asked: RecommendRequest) -> Accepted[Lists]:
        """Return the lists to come, with what is skipped of each history.

        Raises:
            RequestError, UnknownItemError: As `Recommender.recommend`.
            OverloadedError, ClosedError: As `Engine.ask`.
        """
        snapshot = self.recommender.snapshot
        self._check_limits(max(map(len, asked.histories)), asked.k)
        n_factors = snapshot.n_factors
        if asked.factor_weights is not None and len(asked.factor_weights) != n_factors:
            raise RequestError(f"got {len(asked.factor_weights)} factor weights, this model has {n_factors} factors")
        if asked.diversify is not None and not n_factors:
            raise RequestError("this model has no factors to diversify by; leave diversify out")
        popular = asked.empty == "popular"
        if popular and snapshot.model.memory is None:
            raise RequestError("this model has no memory and does not know what is popular; leave empty out")
        if not popular and [] in asked.histories:
            number = asked.histories.index([])
            raise RequestError(f"history number {number} is empty; give at least one item, or say empty='popular'")
        resolved = resolve(snapshot.live, asked.histories, asked.by, asked.unknown)
        allowed = None
        chosen = item_filter(snapshot.live, asked.filters, asked.unknown)
        if (found := snapshot.live.allowed(chosen, 1, unknown=asked.unknown)) is not None:
            allowed = found.masks[0]
        weights = None if asked.factor_weights is None else tuple(asked.factor_weights)
        questions = [
            Question(
                np.array(known, dtype=np.int64), asked.k, asked.exclude_seen, allowed, weights, asked.diversify, popular
            )
            for known, _ in resolved
        ]
        timeout = self.settings.timeout_seconds
        future = self.engine.ask(questions, snapshot=snapshot, timeout_seconds=timeout)
        return Accepted(future, [skipped for _, skipped in resolved], self.version_of(snapshot.live))

    def explain(self, asked: ExplainRequest) -> Accepted[dict[str, Any]]:
        """Return an `ExplainResponse` to come, as plain values; raises as `recommend`."""
        self._check_limits(len(asked.history), asked.k)
        frozen = _Pausing(self.recommender, self.engine.pause)
        live = frozen.snapshot.live
        ((known, skipped),) = resolve(live, [asked.history], asked.by, asked.unknown)
        if not known:
            raise RequestError("the history holds unknown items only; give at least one known item")
        item = None
        if asked.item is not None:
            item = live.lookup.find(asked.item, asked.by)
            if item is None or is_retired(live, item):
                raise UnknownItemError(f"item: no item has the {asked.by} {asked.item!r}; see /v1/items")
        filters = item_filter(live, asked.filters, asked.unknown)
        live.allowed(filters, 1, unknown=asked.unknown)  # looks attributes through, which the engine need not wait for

        def work() -> dict[str, Any]:
            found = explain(
                frozen,
                known,
                item,
                k=asked.k,
                exclude_seen=asked.exclude_seen,
                factor_weights=asked.factor_weights,
                filters=filters,
                unknown=asked.unknown,
                profiles=self.profiles,
            )
            if not asked.fidelity:
                return {"explanation": asdict(found)}
            history, explained = Histories(np.array(known), np.array([0, len(known)])), [found.item.item_index]
            (curves,) = fidelity(frozen, history, np.array(explained), factor_weights=asked.factor_weights)
            return {"explanation": asdict(found), "fidelity": [asdict(one) for one in curves]}

        n_read = min(len(known), frozen.config.text.window)
        size = 1 + n_read + (fidelity_cost(n_read) if asked.fidelity else 0)
        future = self.engine.run(work, timeout_seconds=self.settings.timeout_seconds, size=size)
        return Accepted(future, skipped, self.version_of(live))

    def items(self, search: str, offset: int, limit: int) -> tuple[int, list[Item]]:
        """Return how many items match, and some of them."""
        return self._listing.page(self.live, search, offset, limit)

    def items_of(self, item_ids: Sequence[str]) -> list[Item]:
        """Return the items that ids name; ids that name none are left out."""
        return items_of(self.live, item_ids)

    def attributes(self, limit: int) -> list[Attribute]:
        """Return the attributes that filters can choose by, each with at most `limit` values."""
        return self._choices.of(self.live, limit)

    def add_items(self, items: Sequence[NewItem]) -> Edited:
        """Recommend new items from now on; raises as `Recommender.add_items`, StorageError or ClosedError."""
        rows = [{"item_id": one.item_id, "title": one.title, **one.attributes} for one in items]
        reserved = {"item_id", "title"} & {name for one in items for name in one.attributes}
        if reserved:
            raise RequestError(f"attributes hold {sorted(reserved)[0]!r}, which is a field of its own; leave it out")
        return self._edit(
            {"op": "add", "items": rows}, lambda commit: self.recommender.add_items(rows, commit=commit).notes
        )

    def remove_items(self, item_ids: Sequence[str]) -> Edited:
        """Recommend items no longer; raises as `Recommender.remove_items`, StorageError or ClosedError."""
        distinct = list(dict.fromkeys(item_ids))
        for item_id in distinct:
            if self.live.lookup.find(item_id, "id") is None:
                raise UnknownItemError(f"no item has the id {item_id!r}; see /v1/items")
        return self._edit(
            {"op": "remove", "item_ids": distinct},
            lambda commit: self.recommender.remove_items(distinct, commit=commit),
        )

    def close(self) -> None:
        """Answer what was accepted, let an edit that is being made end, and stop."""
        self.engine.close()
        with self._edits:
            self._closed = True
            if self._journal is not None:
                self._journal.close()

    def _edit(self, record: Record, edit: Callable[[Callable[[], None]], tuple[str, ...] | None]) -> Edited:
        def commit() -> None:
            if self._journal is not None:
                self._journal.append(record)

        with self._edits:
            if self._closed:
                raise ClosedError("the server is about to stop; ask another one")
            notes = edit(commit)
            return Edited(self.version, notes or ())

    def _check_limits(self, n_items: int, k: int) -> None:
        if n_items > self.settings.max_history:
            raise RequestError(f"a history holds {n_items:,} items, this server takes {self.settings.max_history:,}")
        if k > self.settings.max_k:
            raise RequestError(f"k = {k}, this server gives at most {self.settings.max_k}")
