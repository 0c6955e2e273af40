"""What each factor of a model stands for: plain records, and the file in the model's folder that holds them.

`flr.explanation.profiling` makes them; explanations take names from them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from flr.errors import ArtifactError
from flr.evaluation.significance import Interval
from flr.persistence import read_json, write_json

#: Name of the file in the model's folder.
FILE_NAME: Final = "factor_profiles.json"
#: Raised when older files become unreadable.
FORMAT_VERSION: Final = 1


@dataclass(frozen=True)
class AttributeLift:
    """How much more of an attribute's value a factor reads than histories hold.

    Attributes:
        attribute: Column of the items table.
        value: One of its values.
        share: Of the factor's attention on items, how much falls on items of the value, mean over targets, 0..1.
        base: Share of such items in the histories, mean over targets, 0..1.
        lift: `share` by `base`; 1 is no preference.
        chance_low, chance_high: What lifts chance gives to attention that looks at no attribute, 95 % for all values of
            all factors at once; where the lift is outside, also to such attention that likes or avoids one item.
    """

    attribute: str
    value: str
    share: float
    base: float
    lift: float
    chance_low: float
    chance_high: float

    @property
    def is_sure(self) -> bool:
        """Whether the lift is outside of what chance gives."""
        return not self.chance_low <= self.lift <= self.chance_high


@dataclass(frozen=True)
class TypicalItem:
    """A history item that a factor reads more than others.

    Attributes:
        item_index, item_id, title: The item.
        n_read: Users whose histories hold it.
        lift: Attention on it by that of an even look at its histories, drawn towards 1 where `n_read` is small.
    """

    item_index: int
    item_id: str
    title: str
    n_read: int
    lift: float


@dataclass(frozen=True)
class FactorProfile:
    """What one factor stands for, over many targets.

    Attributes:
        factor: 0..K-1.
        name: Short, of words, unlike that of any other factor of the model.
        gate: Mean aggregation weight, 0..1.
        elsewhere: Mean share of attention outside all titles, 0..1.
        spread: Mean entropy of its attention over the items of a history by the logarithm of their number: 0 looks at
            one item, 1 at all alike. This, `token_spread` and `recency` are over histories of two items or more, and
            not a number where there is none.
        token_spread: The same over what can be read: the tokens of the prompt, or items (`reasoner.reads`).
        recency: Mean place of what is read, 0.5 at the latest item, 0 in the middle, -0.5 at the oldest.
        popularity: Mean popularity percentile of what is read less that of the histories, -1..1.
        attributes: Values it reads more of than the histories hold, then some it reads less of; in each, those that are
            sure first, by the difference of shares.
        items: Typical history items, highest lift first.
        relation: What it votes for, of what it reads, where that is one thing: ``"next"``, ``"soon"`` or
            ``"together"`` (`flr.data.transitions`); else empty.
    """

    factor: int
    name: str
    gate: float
    elsewhere: float
    spread: float
    token_spread: float
    recency: Interval
    popularity: Interval
    attributes: tuple[AttributeLift, ...]
    items: tuple[TypicalItem, ...]
    relation: str = ""


@dataclass(frozen=True)
class FactorProfiles:
    """Profiles of all factors of a model.

    Attributes:
        split: Whose targets were looked at.
        n_targets, n_users: How many.
        columns: Attributes of the items table that were looked at.
        n_values: Values of these that were frequent enough to be compared.
        factors: One per factor, in order.
    """

    split: str
    n_targets: int
    n_users: int
    columns: tuple[str, ...]
    n_values: int
    factors: tuple[FactorProfile, ...]


def save_profiles(path: Path | str, profiles: FactorProfiles) -> Path:
    """Write profiles into a model's folder in one step, and return the file.

    Args:
        path: A saved recommender, or a run folder that holds one in ``model/``.
        profiles: Of that model.

    Raises:
        ArtifactError: There is no saved recommender, or it has another number of factors.
        StorageError: The disk refused; what was there before is untouched.
    """
    folder = _model_folder(Path(path))
    file = folder / FILE_NAME
    _check_factors(file, len(profiles.factors), _n_factors(folder))
    write_json(file, {"format_version": FORMAT_VERSION, **asdict(profiles)})
    return file


def load_profiles(path: Path | str) -> FactorProfiles | None:
    """Return the profiles of a saved model, None where none were made.

    Args:
        path: A saved recommender, or a run folder that holds one in ``model/``.

    Raises:
        ArtifactError: There is no saved recommender; or the file of profiles is damaged, of another version, or of
            another number of factors than the model has.
    """
    folder = _model_folder(Path(path))
    file, n_factors = folder / FILE_NAME, _n_factors(folder)
    if not file.exists():
        return None
    content = read_json(file, "file of factor profiles")
    if content.get("format_version") != FORMAT_VERSION:
        raise ArtifactError(
            f"{str(file)!r} has format version {content.get('format_version')!r}, this flr reads {FORMAT_VERSION}; "
            "make it again with `flr profile`"
        )
    try:
        profiles = _parse(content)
    except (KeyError, TypeError, ValueError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ArtifactError(f"{str(file)!r} is damaged: {what}; make it again with `flr profile`") from None
    _check_factors(file, len(profiles.factors), n_factors)
    return profiles


def _model_folder(path: Path) -> Path:
    return path / "model" if (path / "model" / "recommender.json").exists() else path


def _n_factors(folder: Path) -> int:
    reasoner = read_json(folder / "recommender.json", "saved recommender").get("config", {}).get("reasoner", {})
    return 0 if reasoner.get("kind") == "none" else int(reasoner.get("n_factors", 0))


def _check_factors(file: Path, n_found: int, expected: int) -> None:
    if n_found != expected:
        raise ArtifactError(
            f"{str(file)!r} profiles {n_found} factors, the model beside it has {expected}; "
            "make it again with `flr profile`"
        )


def _parse(content: dict[str, Any]) -> FactorProfiles:
    factors = tuple(
        FactorProfile(
            factor=int(one["factor"]),
            name=_text(one["name"]),
            **{name: float(one[name]) for name in ("gate", "elsewhere")},
            **{name: _number(one[name]) for name in ("spread", "token_spread")},
            recency=_interval(one["recency"]),
            popularity=_interval(one["popularity"]),
            attributes=tuple(_lift(lift) for lift in one["attributes"]),
            items=tuple(_item(item) for item in one["items"]),
            relation=_text(one.get("relation", "")),
        )
        for one in content["factors"]
    )
    return FactorProfiles(
        split=_text(content["split"]),
        n_targets=int(content["n_targets"]),
        n_users=int(content["n_users"]),
        columns=tuple(_text(name) for name in content["columns"]),
        n_values=int(content["n_values"]),
        factors=factors,
    )


def _lift(value: dict[str, Any]) -> AttributeLift:
    numbers = {name: float(value[name]) for name in ("share", "base", "lift", "chance_low", "chance_high")}
    return AttributeLift(attribute=_text(value["attribute"]), value=_text(value["value"]), **numbers)


def _item(value: dict[str, Any]) -> TypicalItem:
    counts = {name: int(value[name]) for name in ("item_index", "n_read")}
    return TypicalItem(
        item_id=_text(value["item_id"]), title=_text(value["title"]), lift=float(value["lift"]), **counts
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _interval(value: dict[str, Any]) -> Interval:
    return Interval(*(_number(value[end]) for end in ("mean", "low", "high")))


def _number(value: Any) -> float:
    """Return a figure that is not a number where nothing was read, which JSON writes as null."""
    return float("nan") if value is None else float(value)
