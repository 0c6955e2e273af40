"""What answers look like, for readers of the OpenAPI document: films of MovieLens-100K, numbers rounded."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Final

from flr import __version__
from flr.evaluation.significance import Interval
from flr.explanation.profiles import AttributeLift, FactorProfile, FactorProfiles, TypicalItem
from flr.explanation.results import (
    Change,
    Explanation,
    FactorInfluence,
    HistoryInfluence,
    RankedItem,
    SourceInfluence,
)

_BEST = RankedItem(587, "588", "Beauty and the Beast (1991)", 1, 0.0217, -3.8304)
_FARGO = RankedItem(99, "100", "Fargo (1996)", 1, 0.0335, -3.397)
_FANTASIA = RankedItem(431, "432", "Fantasia (1940)", 1, 0.0101, -4.5913)


def _without(log_prob: float, rank: int, best: RankedItem = _BEST) -> Change:
    """Return what a list of one item becomes."""
    is_new = best is not _BEST
    return Change(log_prob, rank, (best,), (best.item_id,) * is_new, (_BEST.item_id,) * is_new)


#: Of a model with two factors, a memory and an assistant; the list that is compared has one item.
EXPLANATION: Final = Explanation(
    item=RankedItem(182, "183", "Alien (1979)", 98, 0.0026, -5.9351),
    is_seen=False,
    is_allowed=True,
    n_sharing=1,
    items=(_BEST,),
    history=(
        HistoryInfluence(0, 0, "1", "Toy Story (1995)", 0.2564, -0.0979, _without(-5.8372, 73)),
        HistoryInfluence(1, 94, "95", "Aladdin (1992)", 0.7436, 0.6217, _without(-6.5568, 117, _FARGO)),
    ),
    n_unread=0,
    factors=(
        FactorInfluence(0, "Sci-Fi, what soon followed", 0.3818, -0.0284, (0.6555, 0.3445), 0.0, _without(-5.9067, 94)),
        FactorInfluence(1, None, 0.6182, 0.0222, (0.1361, 0.8639), 0.0, _without(-5.9573, 100)),
    ),
    sources=(
        SourceInfluence("titles", 0.1312, 0.055, _without(-5.9901, 99)),
        SourceInfluence("votes", 0.2606, -0.3034, _without(-5.6317, 65, _FANTASIA)),
        SourceInfluence("assistant", 0.6082, -0.4207, _without(-5.5145, 51)),
    ),
)
PROFILES: Final = FactorProfiles(
    split="validation",
    n_targets=943,
    n_users=943,
    columns=("category",),
    n_values=19,
    factors=(
        FactorProfile(
            factor=0,
            name="Sci-Fi",
            gate=0.38,
            elsewhere=0.02,
            spread=0.41,
            token_spread=0.52,
            recency=Interval(0.21, 0.2, 0.22),
            popularity=Interval(0.02, -0.01, 0.05),
            attributes=(AttributeLift("category", "Sci-Fi", 0.31, 0.18, 1.72, 0.93, 1.08),),
            items=(TypicalItem(182, "183", "Alien (1979)", 291, 1.9),),
            relation="soon",
        ),
    ),
)

#: Method and path -> what is answered when all goes well.
ANSWERS: Final[dict[tuple[str, str], Any]] = {
    ("POST", "/v1/recommend"): {
        "lists": [
            {
                "items": [
                    {
                        "item_id": "588",
                        "title": "Beauty and the Beast (1991)",
                        "probability": 0.0217,
                        "log_prob": -3.8304,
                        "factor": None,
                    },
                    {
                        "item_id": "71",
                        "title": "Lion King, The (1994)",
                        "probability": 0.0188,
                        "log_prob": -3.9725,
                        "factor": None,
                    },
                ],
                "skipped": ["Unheard Of"],
            }
        ],
        "catalogue_version": 3,
    },
    ("POST", "/v1/explain"): {"explanation": asdict(EXPLANATION), "skipped": []},
    ("GET", "/v1/items"): {
        "total": 4,
        "offset": 0,
        "items": [
            {
                "item_id": "176",
                "title": "Aliens (1986)",
                "attributes": {"release_year": "1986", "category": "Action Sci-Fi Thriller War"},
                "is_removed": False,
            }
        ],
    },
    ("POST", "/v1/items"): {
        "changed": 1,
        "notes": [
            "item 'n1': of the 12 tokens of its title 6 are in no title before it, so the model has not learnt them"
        ],
        "catalogue_version": 4,
    },
    ("DELETE", "/v1/items"): {"changed": 1, "notes": [], "catalogue_version": 5},
    ("GET", "/v1/attributes"): {
        "attributes": [
            {
                "name": "category",
                "n_values": 19,
                "values": [{"value": "Drama", "n_items": 725}, {"value": "Comedy", "n_items": 505}],
                "numbers": None,
            },
            {
                "name": "release_year",
                "n_values": 71,
                "values": [{"value": "1996", "n_items": 298}, {"value": "1995", "n_items": 295}],
                "numbers": {"min": 1922, "max": 1998},
            },
        ]
    },
    ("GET", "/v1/model"): {
        "flr_version": __version__,
        "model_id": "9f2c41d07be3",
        "n_items": 1682,
        "n_factors": 4,
        "window": 20,
        "backbone": "compact",
        "weights": "float32",
        "overlap": None,
        "knows_popular": True,
        "batches": "exact",
        "exact_batches": True,
        "catalogue_version": 3,
        "limits": {
            "body_bytes": 1_000_000,
            "history": 1_000,
            "k": 200,
            "requests_per_second": 0,
            "timeout_seconds": 10,
        },
    },
    ("GET", "/v1/factors"): {"profiles": asdict(PROFILES)},
    ("GET", "/health"): {"status": "ok"},
    ("GET", "/ready"): {"status": "ok"},
    ("GET", "/metrics"): (
        "# HELP flr_http_requests_total Requests answered.\n"
        "# TYPE flr_http_requests_total counter\n"
        'flr_http_requests_total{method="POST",route="/v1/recommend",status="200"} 1.0\n'
    ),
}

#: Status -> name and detail of a problem.
_PROBLEMS: Final[dict[int, tuple[str, str]]] = {
    400: ("json", "the body is not valid JSON; send one JSON object"),
    401: ("key", "a key is needed; send Authorization: Bearer KEY"),
    403: ("scope", "this needs a key of scope admin; the key given has scope read"),
    404: ("no-profiles", "this run has no profiles of its factors; make them with flr profile"),
    408: ("slow-body", "the body did not arrive within 10 s"),
    413: ("too-large", "the body is larger than 1,000,000 bytes; ask in parts"),
    415: ("media-type", "the body is of type 'text/plain'; send Content-Type: application/json"),
    421: ("host", "this server does not answer to the host 'evil.example'; start it with --keys and --allowed-host"),
    422: ("unknown-item", "history number 0: no item has the id 'zz'; see /v1/items, or say unknown='skip'"),
    429: ("rate", "too many requests; try again in 0.8 s"),
    500: ("internal", "the server failed; its log has the request id"),
    503: ("too-late", "there was no answer within 10 s; try later"),
    507: ("storage", "the journal 'edits.journal' refused the edit: No space left on device; free some space"),
}
#: Status -> a problem that is answered with it.
PROBLEMS: Final[dict[int, dict[str, Any]]] = {
    status: {
        "type": f"urn:flr:problem:{name}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": "c3b1f0a29d4e5f60",
    }
    for status, (name, detail) in _PROBLEMS.items()
}
