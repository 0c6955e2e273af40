"""What sections of the evidence are made of: a question, how to read the answer, and the data they draw on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
from markupsafe import Markup

from flr.experiments.evidence_claims import EvidenceClaim
from flr.experiments.evidence_findings import DataEvidence
from flr.experiments.figures import Mark
from flr.experiments.matrix import Study
from flr.experiments.page_tables import PageTable

#: Columns of an interval, and of that of a difference.
BOTH: Final = ("low", "high")
ENDS: Final = ("difference_low", "difference_high")
#: How to read each section.
NOTES: Final = {
    "disentanglement": (
        "Means over pairs of factors at the last step and over seeds, with 95 % intervals over users (of the "
        "critic's: over seeds, from three on); differences are on the seeds that both have, and their intervals allow "
        "for other seeds. The null takes one factor "
        "from another user: a figure says something beyond it only. Linear CKA is debiased. A small cosine or overlap "
        "is no evidence by itself, as attention to single tokens gives both; CKA and mutual information do not depend "
        "on the factors' bases."
    ),
    "profiles": (
        "What factors read on held-out users at the last step, against an even look at the same histories: how recent "
        "(.5 the latest item, -.5 the oldest), how popular (percentiles more or less), values of the items' attributes "
        "whose lift is beyond what chance gives to all values of all factors at once, and items read more than others. "
        "Names are made of these. Runs are told one by one, as factors have no identity across seeds."
    ),
    "interventions": (
        "The history is read and titles are written as before; what is thought of it is changed, at inference. "
        "Swapped: that of another user; mean: everybody's; shuffled: its own coordinates in another order; removed: "
        "its gate is 0. A changed thought is the vector alone, and what factors vote for stays; with swapped votes "
        "the vector stays, and all votes are those of another user's history. A single factor that is removed or "
        "swapped takes its votes along. What an assistant says of the user's own history stays throughout. "
        "Factors have no identity across seeds, so single ones stand by their run. Intervals are over users, and of "
        "all seeds allow for others; where fewer than ten lost anything, the lower end is what so few can hide. Of "
        "five stay: the share of the first five items that is still among them."
    ),
    "stability": (
        "Factors of two runs are matched one to one (Hungarian method) on half of the users and compared on the other "
        "half: by the items they attend to, and by linear CKA of their outputs. Identity is 0 for random matches and "
        "1 for equal factors; its interval leaves out one seed at a time, and needs three. Factors are not alike to "
        "begin with (ages fade apart, relations are dealt in turn), so identity before training stands beside it."
    ),
    "robustness": (
        "All models are told the same damaged histories; damage falls on the last items, as many as the reference "
        "reads. Losses are relative to the model's own NDCG@10 on whole histories, on the seeds that both it and the "
        "reference have; intervals are over users, those of differences allow for other seeds, and a loss below 0 is a "
        "gain. Unusual targets are selected among all of the test split, damage is tried on some users of each seed."
    ),
    "slices": (
        "Test targets cut by what is known before anyone ranks; two models on the seeds that both have; differences "
        "on all targets stand in the first table. Intervals are over users, for these runs. Many slices "
        "are looked at and none is corrected for that: one interval in twenty misses its value by chance."
    ),
}
_SLICES: Final = {
    "all": "all",
    "history_length": "history",
    "popularity": "item",
    "title": "title",
    "activity": "user's training rows",
}
#: Baselines that figures and narrow tables show beside the variants; files have all.
_N_BASELINES: Final = 2


@dataclass(frozen=True)
class Section:
    """A question of the report.

    Attributes:
        title: The question.
        note: How to read what follows.
        claims: What is answered.
        drawings: SVG figures with a caption each.
        tables: What they were made from.
    """

    title: str
    note: str
    claims: Sequence[EvidenceClaim]
    drawings: Sequence[tuple[Markup, str]]
    tables: Sequence[PageTable]


class Page:
    """The evidence on one data set, for those who write about it.

    Args:
        study: What was run.
        found: Its evidence.
        shown: Models by NDCG@10, best first: those that narrow tables and figures choose from.
    """

    def __init__(self, study: Study, found: DataEvidence, shown: Sequence[str]) -> None:
        self.study, self.found, self.reference = study, found, study.reference
        baselines = [name for name in shown if name in study.baselines][:_N_BASELINES]
        self.rivals = [*study.controls, *baselines]

    def drawn(self, models: Sequence[str]) -> list[str]:
        """Return the models among these that figures have room for."""
        evidence = self.study.evidence
        asked = (self.reference, evidence.control, evidence.single_vector, *self.study.controls)
        return [name for name in dict.fromkeys(asked) if name is not None and name in models] or list(models[:1])

    def table(self, name: str) -> pl.DataFrame:
        """Return a table of the evidence, an empty one where there is none."""
        return self.found.tables.get(name, pl.DataFrame())

    def claims(self, source: str) -> list[EvidenceClaim]:
        """Return the claims that rest on a table."""
        return [claim for claim in self.found.claims if claim.source == source]

    def figure_name(self, figure: str) -> str:
        """Return a name for a figure that no other on the page has."""
        return f"{figure}-{list(self.study.data).index(self.found.data)}"


def places_of(keys: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return slices with their labels without those that cut nothing, as all targets have one label."""
    places = list(dict.fromkeys(keys))
    n_labels = {name: sum(place[0] == name for place in places) for name, _ in places}
    return [place for place in places if place[0] == "all" or n_labels[place[0]] > 1]


def known(value: float | None) -> float | None:
    """Return a figure, None for NaN."""
    return None if value is None or math.isnan(value) else value


def mark_of(row: Mapping[str, Any], name: str, ends: tuple[str, str] = BOTH) -> Mark:
    """Return what is drawn of a row."""
    return Mark(known(row.get(name)), *(known(row.get(end)) for end in ends))


def place_name(name: str, label: str) -> str:
    """Return what a slice and its label are called."""
    return "all" if name == "all" else f"{_SLICES.get(name, name)}: {label}"
