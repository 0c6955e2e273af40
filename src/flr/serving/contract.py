"""What goes over the wire: requests with their limits, answers, problems; the OpenAPI document is made from these."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, model_validator
from pydantic_core import PydanticCustomError

#: Limits that hold for everybody; the server's own (`ServeSettings`) may be lower.
MOST_HISTORIES: Final = 64
MOST_HISTORY_ITEMS: Final = 1_000
MOST_K: Final = 200
MOST_FACTORS: Final = 64
MOST_ITEMS_PER_EDIT: Final = 1_000
MOST_IDS_PER_FILTER: Final = 10_000
MOST_LISTED: Final = 1_000

#: An id or a title; text that is no Unicode (half of a surrogate pair) is refused.
ItemText = Annotated[str, StringConstraints(min_length=1, max_length=512)]
ItemIds = Annotated[list[ItemText], Field(min_length=1, max_length=100)]
RemovedIds = Annotated[list[ItemText], Field(min_length=1, max_length=MOST_ITEMS_PER_EDIT)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
Scalar = Annotated[str, StringConstraints(max_length=512)] | bool | Whole | Number
MaybeHistory = Annotated[list[ItemText], Field(max_length=MOST_HISTORY_ITEMS)]
History = Annotated[list[ItemText], Field(min_length=1, max_length=MOST_HISTORY_ITEMS)]
Weights = Annotated[list[Annotated[Number, Field(ge=0, le=100)]], Field(max_length=MOST_FACTORS)]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Range(_Model):
    """Numbers from `min` to `max`, both included; one end may be left open."""

    min: Number | None = None
    max: Number | None = None

    @model_validator(mode="after")
    def _holds_something(self) -> Self:
        if self.min is None and self.max is None:
            raise PydanticCustomError("range", "a range needs min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise PydanticCustomError("range", "min must not be above max")
        return self


def _kind(wanted: object) -> str:
    """Return what a condition is checked as, so that what is wrong with it is said once."""
    return "range" if isinstance(wanted, dict | Range) else "list" if isinstance(wanted, list) else "value"


_Value = Annotated[Scalar, Tag("value")]
_Range = Annotated[Range, Tag("range")]
Wanted = Annotated[_Value | _Range, Discriminator(_kind)]
_Several = Annotated[list[Wanted], Field(min_length=1, max_length=100), Tag("list")]
Condition = Annotated[_Value | _Range | _Several, Discriminator(_kind)]


class Filters(_Model):
    """What may be recommended; all conditions must hold."""

    allow: Annotated[list[ItemText], Field(max_length=MOST_IDS_PER_FILTER)] | None = Field(
        None, description="Ids of the only items that may be recommended; null allows all."
    )
    exclude: Annotated[list[ItemText], Field(max_length=MOST_IDS_PER_FILTER)] = Field(
        [], description="Ids of items that may not, such as what is out of stock."
    )
    where: Annotated[dict[Name, Condition], Field(max_length=20)] = Field(
        {},
        description="Attribute -> a value, a range of numbers, or several; an item must have one of them, for every "
        "attribute.",
    )


class RecommendRequest(_Model):
    """Histories, and what is wanted after each."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"histories": [["1", "95"]], "k": 5},
                {"histories": [["Alien (1979)"], ["Heat (1995)"]], "by": "title", "unknown": "skip", "k": 3},
                {"histories": [["1", "95"]], "filters": {"exclude": ["50"]}, "diversify": "factors"},
            ]
        }
    )

    histories: Annotated[list[MaybeHistory], Field(min_length=1, max_length=MOST_HISTORIES)] = Field(
        description="What each person took, oldest first; the model reads the last items only, see /v1/model. One may "
        "be empty where `empty` says what that means."
    )
    by: Literal["id", "title"] = Field("id", description="Whether histories name items by id or by title.")
    k: Annotated[int, Field(ge=1, le=MOST_K)] = Field(10, description="Items per history.")
    exclude_seen: bool = Field(True, description="Leave out the items of the (whole) history.")
    unknown: Literal["error", "skip"] = Field(
        "error",
        description="Items that are not in the catalogue: refuse the request, or skip and report them; a history of "
        "nothing else then has an empty list.",
    )
    empty: Literal["error", "popular"] = Field(
        "error",
        description="Histories that are empty: refuse the request, or give what was taken most often in training, to "
        "those of skipped items only too.",
    )
    factor_weights: Weights | None = Field(
        None, description="Multiplier of each factor's gate: 0 turns it off, 2 doubles it."
    )
    diversify: Literal["factors"] | None = Field(None, description="Let each factor pick in turn.")
    filters: Filters | None = None


class RecommendedItem(_Model):
    """One recommended item; the probability is over the whole catalogue, filters do not raise it."""

    item_id: str
    title: str
    probability: float
    log_prob: float
    factor: int | None = Field(None, description="The factor that picked it, of a diversified list.")


class RecommendedList(_Model):
    """The list after one history."""

    items: list[RecommendedItem] = Field(description="Best first; fewer than k where fewer are left.")
    skipped: list[str] = Field(description="Items of the history that are not in the catalogue.")


class RecommendResponse(_Model):
    """One list per history, in the order of the request."""

    lists: list[RecommendedList]
    catalogue_version: int = Field(
        description="Of the catalogue the lists are from: rises with every edit; with a journal it never falls."
    )


class ExplainRequest(_Model):
    """A history, the item to explain, and how the list is steered; a diversified list cannot be explained."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"history": ["1", "95"], "item": "183", "k": 5},
                {"history": ["1", "95"], "filters": {"exclude": ["50"]}},
                {"history": ["1", "95", "50"], "item": "183", "fidelity": True},
            ]
        }
    )

    history: History
    by: Literal["id", "title"] = "id"
    item: ItemText | None = Field(None, description="Id or title; null: the best recommendation.")
    k: Annotated[int, Field(ge=1, le=MOST_K)] = Field(10, description="Length of the lists that are compared.")
    exclude_seen: bool = True
    unknown: Literal["error", "skip"] = "error"
    factor_weights: Weights | None = Field(None, description="Those of the list, which hold for every change.")
    filters: Filters | None = Field(None, description="Those of the list: other items are no candidates.")
    fidelity: bool = Field(
        False,
        description="Also test whether the item suffers when what is called important is taken away; it takes longer "
        "than the explanation, and needs two items that are read.",
    )


class MeasureFidelity(_Model):
    """How well one measure of importance orders the history's items; log-probabilities are natural."""

    measure: Literal["attention", "gated", "leave-one-out", "latest"] = Field(
        description="attention; attention weighted by gates; influence of each purchase; or its place, later first."
    )
    importance: tuple[float, ...] = Field(description="Of each item that is read, oldest first.")
    n_kept: tuple[int, ...] = Field(description="Items left at each point of the curves.")
    deletion: tuple[float, ...] = Field(description="log p(item) with the least important items only.")
    insertion: tuple[float, ...] = Field(description="log p(item) with the most important items only.")
    random: tuple[float, ...] = Field(description="log p(item) with as many random items, mean over random orders.")
    deletion_gain: float = Field(description="By how many nats deletion lies below random, on average.")
    insertion_gain: float = Field(description="By how many nats insertion lies above random, on average.")
    score: float = Field(description="Mean of the two gains: above 0 is better than chance.")


class ExplainResponse(_Model):
    """Why an item is recommended: see `flr.explanation.results.Explanation` for every field."""

    explanation: dict[str, Any]
    skipped: list[str]
    fidelity: list[MeasureFidelity] | None = Field(None, description="One per measure; null where nobody asked.")


class Item(_Model):
    """An item of the catalogue."""

    item_id: str
    title: str
    attributes: dict[str, Any] = {}
    is_removed: bool = Field(False, description="It is recommended no longer; only items asked for by id can be.")


class NewItem(_Model):
    """An item to recommend from now on."""

    item_id: ItemText
    title: Annotated[str, StringConstraints(min_length=1, max_length=2_000)]
    attributes: Annotated[
        dict[Name, Scalar | Annotated[list[Scalar], Field(max_length=100)] | None], Field(max_length=50)
    ] = Field({}, description="Attributes that the catalogue's items have.")

    @model_validator(mode="before")
    @classmethod
    def _refuse_flat_attributes(cls, given: Any) -> Any:
        for name in given if isinstance(given, dict) else ():
            if name not in cls.model_fields:
                raise PydanticCustomError(
                    "flat_attribute",
                    'an item has no field "{name}"; put it under "attributes": {"{name}": ...}',
                    {"name": str(name)},
                )
        return given


class AddItemsRequest(_Model):
    """Items to add, all or none."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [{"item_id": "new-1", "title": "The Red Horse (1990)"}]}]}
    )

    items: Annotated[list[NewItem], Field(min_length=1, max_length=MOST_ITEMS_PER_EDIT)]


class EditResponse(_Model):
    """What came of an edit; it is on disk when the server keeps a journal."""

    changed: int
    notes: list[str] = Field(description="What should be known: titles that were cut, tokens nobody has met.")
    catalogue_version: int = Field(description="Of the catalogue that this edit led to; no two edits share one.")


class ItemsResponse(_Model):
    """A page of the catalogue."""

    total: int = Field(description="Items that match.")
    offset: int
    items: list[Item]


class AttributeValue(_Model):
    """A value that a filter can ask for."""

    value: str
    n_items: int = Field(description="Items that are recommended and have it.")


class Attribute(_Model):
    """An attribute that several items share, or a measure such as a price, which has a range and no values."""

    name: str
    n_values: int
    values: list[AttributeValue] = Field(description="Those of most items first.")
    numbers: Range | None = Field(None, description="Lowest and highest, where most values are numbers.")


class AttributesResponse(_Model):
    """What filters can choose from; identifiers and long texts are no choice."""

    attributes: list[Attribute]


class ModelResponse(_Model):
    """What is served."""

    flr_version: str
    model_id: str = Field(
        "", description="Of the saved model and its items; it is in the header X-Flr-Model of every answer, too."
    )
    n_items: int
    n_factors: int
    window: int = Field(description="Items of a history that are read.")
    backbone: str
    weights: Literal["float32", "bfloat16", "int8"]
    overlap: float | None = Field(description="Of reduced weights: share of the top 10 that full ones give as well.")
    knows_popular: bool = Field(False, description="Whether a history without items can have what is popular.")
    batches: Literal["exact", "fast"] = Field(
        "exact", description="exact: answers are the same to the bit in any company; fast: to rounding."
    )
    exact_batches: bool | None = Field(
        description="Batches and the cache change no bit on this machine; where they would, exact does without them. "
        "null: not ready."
    )
    catalogue_version: int
    limits: dict[str, float]


class FactorsResponse(_Model):
    """What each factor stands for, made by `flr profile`."""

    profiles: dict[str, Any]


class State(_Model):
    """Whether the server lives, or is ready."""

    status: Literal["ok", "starting", "stopping"]


class FieldProblem(_Model):
    """One field that is wrong."""

    where: str
    problem: str


class Problem(_Model):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="urn:flr:problem:NAME")
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[FieldProblem] | None = None
