"""Sections on what becomes of the lists: when histories are damaged, and for whom they are good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from flr.experiments.figures import Lines, Rows, Series, lines_figure, rows_figure
from flr.experiments.page_parts import BOTH, ENDS, NOTES, Page, Section, mark_of, place_name, places_of
from flr.experiments.page_tables import Cell, PageTable, count, number
from flr.experiments.robustness_tables import ALL_DAMAGES
from flr.experiments.verdicts import shown_seeds

#: Models that one figure has room for beside the reference.
_MOST_LINES: Final = 5
_STRAINS: Final = {
    "insert": ("random items inserted", "share of the window"),
    "drop": ("items left out", "share of the window"),
    "shuffle": ("order shuffled", "share of the window"),
    "truncate": ("last items left out", "items"),
    "shifted": ("least popular users only", "share of users left out"),
    "cold": ("least taken items only", "share of targets left out"),
}


def robustness(page: Page) -> Iterator[Section]:
    """Yield the section on what damage and unusual users cost."""
    table = page.table("robustness")
    if table.is_empty():
        return
    rows = {(row["model"], row["strain"], row["strength"]): row for row in table.to_dicts()}
    models = list(dict.fromkeys(table["model"]))
    strains: dict[str, list[float]] = {}
    for _, strain, strength in rows:
        if strain != ALL_DAMAGES and strength not in strains.setdefault(strain, []):
            strains[strain].append(strength)

    def drawing(number_: int, drawn: Sequence[str]) -> tuple[Markup, str]:
        panels = [
            Lines(
                _STRAINS[strain][0],
                strengths,
                [
                    Series(
                        model,
                        [mark_of(rows[model, strain, strength], "loss") for strength in strengths],
                        model == page.reference,
                    )
                    for model in drawn
                ],
                _STRAINS[strain][1],
                percent=True,
            )
            for strain, strengths in strains.items()
        ]
        described = f"relative loss of NDCG@10 of {', '.join(drawn)} under {', '.join(strains)}"
        figure = lines_figure(page.figure_name(f"robustness-{number_}"), panels, described)
        return figure, f"Relative loss of NDCG@10: {', '.join(drawn)}."

    near = [name for name in page.rivals if name in models]
    others = [name for name in models if name not in (page.reference, *near)]
    groups = [near, *(others[start : start + _MOST_LINES] for start in range(0, len(others), _MOST_LINES))]
    head = ["model", "seeds compared", "all damages", f"less {page.reference}'s (points)"]
    head += [f"{strain} {strengths[-1]:g}" for strain, strengths in strains.items()]
    cells = [
        [
            Cell(model),
            count(rows[model, ALL_DAMAGES, 0.0]["seeds"]),
            number(rows[model, ALL_DAMAGES, 0.0], "loss", BOTH, form=".1f", scale=100),
            number(rows[model, ALL_DAMAGES, 0.0], "difference", ENDS, form="+.1f", scale=100),
            *(
                number(rows[model, strain, strengths[-1]], "loss", BOTH, form=".1f", scale=100)
                if model == page.reference
                else number(rows[model, strain, strengths[-1]], "difference", ENDS, form="+.1f", scale=100)
                for strain, strengths in strains.items()
            ),
        ]
        for model in models
    ]
    title = (
        f"Loss of NDCG@10 in per cent of its own; at the strongest damage, {page.reference}'s, and by how many points "
        "the others lose more of theirs on the same targets and seeds"
    )
    yield Section(
        "Who is robust when histories are damaged or users are unusual?",
        NOTES["robustness"],
        page.claims("robustness"),
        [drawing(number_, [page.reference, *group]) for number_, group in enumerate(groups)],
        [PageTable(title, head, cells, "evidence-robustness.csv")],
    )


def slices(page: Page) -> Iterator[Section]:
    """Yield the section on kinds of targets."""
    table = page.table("slices")
    if table.is_empty():
        return
    rows = {(row["model"], row["slice"], row["label"]): row for row in table.to_dicts()}
    rivals = [name for name in page.rivals if (name, "all", "all") in rows]
    places = places_of([key[1:] for key in rows])
    cells = [
        [
            Cell(place_name(*place)),
            count(rows[page.reference, *place]["targets"]),
            number(rows[page.reference, *place], "value", BOTH),
            *(number(rows[name, *place], "difference", ENDS, form="+.4f") for name in rivals),
        ]
        for place in places
    ]
    series = [
        Series(name, [mark_of(rows[name, *place], "difference", ENDS) for place in places], number_ == 0)
        for number_, name in enumerate(rivals)
    ]
    drawings = []
    if rivals:
        panel = Rows(f"{page.reference} less the other", [place_name(*place) for place in places], series, zero=True)
        described = f"difference of NDCG@10 between {page.reference} and {', '.join(rivals)} by kind of target"
        drawing = rows_figure(page.figure_name("slices"), [panel], described)
        drawings = [(drawing, f"NDCG@10 of {page.reference} less that of the others; right of the line it is better.")]
    head = ["targets that are", "targets", page.reference, *(_versus(rows[name, "all", "all"]) for name in rivals)]
    yield Section(
        f"For whom is {page.reference} better?",
        NOTES["slices"],
        (),
        drawings,
        [PageTable("NDCG@10 by kind of target", head, cells, "evidence-slices.csv")],
    )


def _versus(row: Mapping[str, Any]) -> str:
    return f"less {row['model']} ({shown_seeds(row['seeds'])})"
