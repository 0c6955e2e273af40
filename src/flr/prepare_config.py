"""How raw files become a prepared folder: what `flr prepare` asks for. This module loads no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from flr.sections import Section

_MONTH = r"^\d{4}-(0[1-9]|1[0-2])$"
#: How D3 and LatentR3 prepare Amazon's reviews; what their code gets wrong is mended here and kept in `_STRICT`.
_LATENTR3 = {
    "split": "temporal",
    "cut_ties": "whole",
    "window_start": "2017-10",
    "window_end": "2018-11",
    "widen_until_items": 5000,
    "min_user_interactions": 5,
    "min_item_interactions": 5,
    "deduplicate": True,
    "missing_title": "drop",
    "title_rule": "readable",
}
_STRICT = {"cut_ties": "user", "deduplicate": False, "title_rule": "d3"}


class PrepareConfig(Section):
    """Raw files to a prepared folder; kept in the folder's manifest, not among the settings of a run."""

    protocol: Literal["none", "latentr3"] = Field(
        "none", description="Defaults of a published preparation for the settings below; your own go first."
    )
    strict_latentr3: bool = Field(
        False, description="That protocol to the letter: repeats, broken titles and parted days stay."
    )
    split: Literal["leave_one_out", "temporal", "given"] = Field(
        "leave_one_out",
        description="Last two rows of each user; or a cut in global time; or a column naming each row's part.",
    )
    train_fraction: float = Field(0.8, gt=0, lt=1, description="Share of all targets before the first cut (temporal).")
    valid_fraction: float = Field(0.1, ge=0, lt=1, description="Share of all targets between the cuts (temporal).")
    test_fraction: float = Field(0.1, ge=0, lt=1, description="Share of all targets after the second cut (temporal).")
    cut_ties: Literal["file", "user", "whole"] = Field(
        "file",
        description="Targets of one time at a cut: by place in the file, user by user, or not parted (temporal).",
    )
    window_start: str | None = Field(None, pattern=_MONTH, description="Drop rows before this month, such as 2017-10.")
    window_end: str | None = Field(None, pattern=_MONTH, description="Drop rows after the first moment of this month.")
    widen_until_items: int = Field(
        1, ge=1, description="Start the window a year earlier, back to 1996, until this many items survive."
    )
    min_rating: float | None = Field(
        None, allow_inf_nan=False, description="Leave out rows rated lower or not at all; unset: ratings are not used."
    )
    min_user_interactions: int = Field(1, ge=1, description="k-core: drop users with fewer rows; 1 keeps all.")
    min_item_interactions: int = Field(1, ge=1, description="k-core: drop items with fewer rows; 1 keeps all.")
    deduplicate: bool = Field(False, description="Keep the first of rows with equal user, item and time.")
    catalogue: Literal["interacted", "listed"] = Field(
        "interacted", description="Rank the items that somebody took, or also those that are only listed."
    )
    cold_items: float = Field(
        0.0, ge=0, lt=1, description="Withhold this share of the items from training, for `flr evaluate --cold`."
    )
    cold_seed: int = Field(0, ge=0, description="Seed that draws them.")
    missing_title: Literal["error", "fallback", "drop"] = Field(
        "error", description="Stop at items without a title, call them `Untitled item <item_id>`, or drop their rows."
    )
    title_rule: Literal["any", "readable", "d3"] = Field(
        "any",
        description="Titles as they are; or free of markup, 2 characters to 20 words; or D3's rule to the letter.",
    )
    on_bad_row: Literal["error", "drop"] = Field(
        "error", description="Stop at rows that lack a user, an item or a readable time, or drop and count them."
    )
    user_column: str | None = Field(None, description="Column of the user's id; unset: a standard name.")
    item_column: str | None = Field(
        None, description="Column of the item's id, in both tables or one; unset, and in the other: a standard name."
    )
    timestamp_column: str | None = Field(None, description="Column of the time; unset: a standard name.")
    rating_column: str | None = Field(
        None, description="Column of the rating, for min_rating; unset: a standard name, if any."
    )
    title_column: str | None = Field(None, description="Column of the title; unset: a standard name.")
    split_column: str | None = Field(None, description="Column of the part (given); unset: `split`.")
    order_column: str | None = Field(None, description="Column of the order within a user; unset: order by time.")
    title_template: str | None = Field(
        None, description="Title made of columns, e.g. `{movie_title} ({release_year})`; empty brackets vanish."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_protocol(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        strict = given.get("strict_latentr3", False)
        if strict and given.get("protocol", "latentr3") != "latentr3":
            raise ValueError(f"strict_latentr3 contradicts protocol {given['protocol']!r}; leave one out")
        if not strict and given.get("protocol") != "latentr3":
            return given
        return {"protocol": "latentr3", **_LATENTR3, **(_STRICT if strict else {}), **given}

    @model_validator(mode="after")
    def _check_window(self) -> PrepareConfig:
        start, end = self.window_start, self.window_end
        if start is not None and end is not None and start >= end:
            raise ValueError(f"window_start {start} must be before window_end {end}")
        if self.widen_until_items > 1 and start is None:
            raise ValueError(f"widen_until_items {self.widen_until_items} needs a window_start to go back from")
        return self

    @model_validator(mode="after")
    def _check_fractions(self) -> PrepareConfig:
        total = self.train_fraction + self.valid_fraction + self.test_fraction
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train_fraction + valid_fraction + test_fraction must be 1, got {total:g}")
        if self.title_template is not None and self.title_column is not None:
            raise ValueError(
                f"title_column {self.title_column!r} and title_template {self.title_template!r} contradict; give one"
            )
        return self
