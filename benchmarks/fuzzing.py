"""Requests made from the OpenAPI document, many of them with items that the catalogue has: none may make a server fail.

What is made from the document alone is mostly refused: no item has the id ``"\\x1f"``. So half of the requests take
ids, titles and attributes from the catalogue, with a field in between as the document alone would have it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import httpx2
import schemathesis
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from schemathesis import GenerationMode

#: Items that edits remove and add again, so that a catalogue is left for everything else.
_N_EDITED = 40
#: What the document says of keys is not drawn: callers have theirs.
_KEYS = {"authorization", "x-api-key"}
_SENT = ("method", "url", "headers", "params", "json", "content")

#: A URL is longer than is sent at all: by httpx, or by httpx2, which starlette's test client is made of.
_TOO_LONG = (httpx.InvalidURL, httpx2.InvalidURL)

Made = st.SearchStrategy[Any]
#: How many answers there were of each operation and status.
Tally = Counter[tuple[str, int]]


@dataclass(frozen=True)
class Words:
    """What a catalogue holds that requests can name.

    Attributes:
        item_ids, titles: Of some of its items, in the same order.
        attributes: Attribute -> values that filters can choose from.
        ranges: Attribute -> the lowest and the highest of what is a number.
        n_factors: Of the model.
    """

    item_ids: list[str]
    titles: list[str]
    attributes: dict[str, list[str]]
    ranges: dict[str, tuple[float, float]]
    n_factors: int

    @classmethod
    def of(cls, client: httpx.Client, headers: Mapping[str, str] | None = None) -> Words:
        """Return the words of a server's catalogue."""
        ask = lambda path: client.get(path, headers=headers).raise_for_status().json()  # noqa: E731
        items = ask("/v1/items?limit=1000")["items"]
        attributes = ask("/v1/attributes?limit=50")["attributes"]
        return cls(
            [item["item_id"] for item in items],
            [item["title"] for item in items],
            {one["name"]: [value["value"] for value in one["values"]] for one in attributes if one["values"]},
            {one["name"]: (one["numbers"]["min"], one["numbers"]["max"]) for one in attributes if one["numbers"]},
            ask("/v1/model")["n_factors"],
        )


@dataclass(frozen=True)
class Caller:
    """Somebody who asks.

    Attributes:
        headers: The key that is sent, if any.
        may_ask, may_edit: Whether the server takes questions, or edits, of this key.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    may_ask: bool = True
    may_edit: bool = True

    def refusal(self, method: str, path: str) -> int | None:
        """Return the status with which a request must be refused whatever it holds, None where its key is good."""
        if path in ("/health", "/ready"):
            return None
        if not self.may_ask:
            return 401
        return 403 if not self.may_edit and path == "/v1/items" and method != "get" else None


def callers(reader: str, admin: str) -> list[Caller]:
    """Return callers with the keys of a server and with none, wrong and malformed ones."""
    return [
        Caller({"Authorization": f"Bearer {admin}"}),
        Caller({"X-API-Key": admin}),
        Caller({"Authorization": f"Bearer {reader}"}, may_edit=False),
        Caller({"X-API-Key": reader}, may_edit=False),
        Caller({}, may_ask=False),
        Caller({"Authorization": f"Bearer {admin[:-1]}"}, may_ask=False),
        Caller({"X-API-Key": "flr__"}, may_ask=False),
    ]


def fuzz(
    client: httpx.Client, n_requests: int, *, callers: Sequence[Caller] = (Caller(),), seed: int | None = None
) -> Tally:
    """Send about so many requests, and return how they were answered.

    Args:
        client: Of the server; the first caller must be one that may ask.
        n_requests: Requests; at least one of each operation and kind is sent.
        callers: Who asks; without keys everybody may do everything.
        seed: Makes the same requests again; None makes others each time.

    Raises:
        AssertionError: See `check_answer`.
    """
    words = Words.of(client, callers[0].headers)
    document = client.get("/openapi.json", headers=callers[0].headers).json()
    operations = [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]
    n_varied = sum(_is_varied(operation) for operation in operations)
    tally: Tally = Counter()
    for operation in operations:
        allowed = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        if not _is_varied(operation):  # nothing can be wrong, and only callers differ
            _send(client, allowed, st.sampled_from(callers), _Limits(len(callers), seed, tally))
            continue
        forbidden = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
        for cases, share in ((_known(operation, words), 0.5), (allowed, 0.25), (forbidden, 0.25)):
            n_cases = max(1, round(n_requests / n_varied * share))
            _send(client, cases, st.sampled_from(callers), _Limits(n_cases, seed, tally))
    return tally


@dataclass(frozen=True)
class _Limits:
    """How many requests are made, which (see `fuzz`), and where the answers are counted."""

    n_cases: int
    seed: int | None
    tally: Tally


def _send(client: httpx.Client, cases: Made, callers: Made, limits: _Limits) -> None:
    @settings(
        max_examples=limits.n_cases,
        database=None,
        deadline=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, caller=callers)
    def check(case: schemathesis.Case, caller: Caller) -> None:
        method, path = case.operation.method, case.operation.path
        asked = case.as_transport_kwargs(base_url=str(client.base_url))
        if "data" in asked:
            asked["content"] = asked.pop("data")
        asked["headers"] = {
            **{name: value for name, value in (asked.get("headers") or {}).items() if name.lower() not in _KEYS},
            **caller.headers,
        }
        try:
            answer = client.request(**{name: asked[name] for name in _SENT if name in asked})
        except _TOO_LONG:
            reject()
        limits.tally[f"{method.upper()} {path}", answer.status_code] += 1
        check_answer(answer, caller.refusal(method, path))

    run = check if limits.seed is None else seeded(limits.seed)(check)
    run()


def check_answer(answer: httpx.Response, refusal: int | None) -> None:
    """Fail unless an answer is one that a server may give.

    Args:
        answer: The answer.
        refusal: See `Caller.refusal`.
    """
    status, kind = answer.status_code, answer.headers["content-type"].partition(";")[0]
    assert status < 500, f"the server failed: {answer.text}"
    if refusal is None:
        assert status not in (401, 403), f"a good key was refused: {answer.text}"
    else:
        assert status == refusal, f"got {status}, expected {refusal} for this key: {answer.text}"
    assert (kind == "application/problem+json") == (status >= 400), f"{status} came as {kind}"


def _is_varied(operation: schemathesis.APIOperation) -> bool:
    return bool(operation.body or operation.query)


def _known(operation: schemathesis.APIOperation, words: Words) -> Made:
    """Return requests that name what the catalogue holds."""
    known = _KNOWN[operation.method, operation.path](words)
    part = "body" if operation.body else "query"

    @st.composite
    def cases(draw: st.DrawFn) -> schemathesis.Case:
        case = draw(operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
        fields, wild = draw(known), getattr(case, part)
        if isinstance(wild, dict) and wild and draw(st.integers(0, 7)) == 0:
            name = draw(st.sampled_from(sorted(wild)))
            fields = {**fields, name: wild[name]}
        setattr(case, part, fields)
        return case

    return cases()


def _steering(words: Words) -> dict[str, Made]:
    ids = st.lists(st.sampled_from(words.item_ids), max_size=30)
    where: dict[str, Made] = {name: st.sampled_from(values) for name, values in words.attributes.items()}
    for name, (low, high) in words.ranges.items():
        ends = st.tuples(st.floats(low, high), st.floats(low, high)).map(sorted)
        within = ends.map(lambda both: {"min": both[0], "max": both[1]}) | ends.map(lambda both: {"max": both[0]})
        where[name] = where[name] | within if name in where else within
    several = {name: wanted | st.lists(wanted, min_size=1, max_size=9) for name, wanted in where.items()}
    chosen = {"allow": st.none() | ids, "exclude": ids, "where": st.fixed_dictionaries({}, optional=several)}
    return {
        "k": st.integers(1, 200),
        "exclude_seen": st.booleans(),
        "unknown": st.sampled_from(["error", "skip"]),
        "factor_weights": st.none() | st.lists(st.floats(0, 100), min_size=words.n_factors, max_size=words.n_factors),
        "filters": st.none() | st.fixed_dictionaries({}, optional=chosen),
    }


def _named(words: Words, make: Callable[[Made], dict[str, Made]]) -> Made:
    """Return questions that name items by id or by title."""
    return st.sampled_from([("id", words.item_ids), ("title", words.titles)]).flatmap(
        lambda kind: st.fixed_dictionaries(
            {"by": st.just(kind[0]), **make(st.sampled_from(kind[1]))}, optional=_steering(words)
        )
    )


def _recommend(words: Words) -> Made:
    def fields(name: Made) -> dict[str, Made]:
        histories = st.lists(st.lists(name, min_size=1, max_size=40), min_size=1, max_size=4)
        return {"histories": histories, "diversify": st.sampled_from([None, "factors"])}

    return _named(words, fields)


def _explain(words: Words) -> Made:
    return _named(words, lambda name: {"history": st.lists(name, min_size=1, max_size=40), "item": st.none() | name})


def _items(words: Words) -> Made:
    parts = st.sampled_from(words.titles).flatmap(lambda title: st.sampled_from(title.split() or [title]))
    return st.fixed_dictionaries({"search": parts}, optional={"offset": st.integers(0, 50), "limit": st.integers(1, 9)})


def _attributes(_: Words) -> Made:
    return st.fixed_dictionaries({}, optional={"limit": st.integers(1, 50)})


def _edited_ids(words: Words) -> Made:
    return st.sampled_from([*words.item_ids[:_N_EDITED], *(f"new-{number}" for number in range(_N_EDITED))])


def _add(words: Words) -> Made:
    item = st.fixed_dictionaries(
        {"item_id": _edited_ids(words), "title": st.sampled_from(words.titles)},
        optional={
            "attributes": st.fixed_dictionaries(
                {}, optional={name: st.sampled_from(values) for name, values in words.attributes.items()}
            )
        },
    )
    return st.fixed_dictionaries(
        {"items": st.lists(item, min_size=1, max_size=3, unique_by=lambda one: str(one["item_id"]))}
    )


def _remove(words: Words) -> Made:
    return st.fixed_dictionaries({"item_id": st.lists(_edited_ids(words), min_size=1, max_size=3)})


_KNOWN: dict[tuple[str, str], Callable[[Words], Made]] = {
    ("post", "/v1/recommend"): _recommend,
    ("post", "/v1/explain"): _explain,
    ("get", "/v1/items"): _items,
    ("get", "/v1/attributes"): _attributes,
    ("post", "/v1/items"): _add,
    ("delete", "/v1/items"): _remove,
}
