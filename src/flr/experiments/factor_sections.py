"""Sections on the factors: whether they differ, whether they matter, whether they come again from another seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import polars as pl
from markupsafe import Markup

from flr.diagnostics.interventions import SWAPPED_VOTES
from flr.experiments.factor_tables import CRITIC, NEIGHBOURS
from flr.experiments.figures import Lines, Rows, Series, lines_figure, rows_figure
from flr.experiments.page_parts import BOTH, ENDS, NOTES, Page, Section, known, mark_of, place_name, places_of
from flr.experiments.page_tables import Cell, PageTable, count, number

#: Columns of the two tables of disentanglement.
_SHARED: Final = {
    "linear_cka": "linear CKA",
    NEIGHBOURS: "MI, neighbours",
    CRITIC: "MI, critic",
    "correlation": "correlation",
    "absolute_cosine": "abs. cosine",
    "top_item_overlap": "items read",
    "voted_overlap": "items voted for",
}
_USE: Final = {
    "attention_entropy": "entropy of attention",
    "gate_entropy": "entropy of the gate",
    "effective_rank": "effective rank of thoughts",
    "dead_factors": "dead factors",
}
#: Those that do not depend on bases, which are compared with the control, and those that are drawn.
_COMPARED: Final = ("linear_cka", NEIGHBOURS)
_DRAWN: Final = {"linear_cka": "linear CKA", NEIGHBOURS: "mutual information", "absolute_cosine": "absolute cosine"}
_Rows = Mapping[tuple[str, str], Mapping[str, Any]]


def disentanglement(page: Page) -> Iterator[Section]:
    """Yield the section on whether factors are different from each other."""
    table = page.table("disentanglement")
    if table.is_empty():
        return
    rows = {(row["model"], row["statistic"]): row for row in table.to_dicts()}
    models = list(dict.fromkeys(table["model"]))
    with_pairs = [model for model in models if (model, "linear_cka") in rows]
    tables = [_shared(page, with_pairs, rows)] if with_pairs else []
    yield Section(
        "Are factors different from each other on held-out users?",
        NOTES["disentanglement"],
        page.claims("disentanglement"),
        list(_disentanglement_figures(page, with_pairs, rows)) if with_pairs else [],
        [*tables, _use(models, rows)],
    )


def _shared(page: Page, models: Sequence[str], rows: _Rows) -> PageTable:
    """Return how much two factors share, model by model, with the null below."""
    control = page.study.evidence.control
    names = [name for name in _SHARED if _any(rows, name)]
    compared = [name for name in _COMPARED if name in names] if control in models else []
    head = [
        "model",
        "seeds",
        *(_SHARED[name] for name in names),
        *(f"{_SHARED[name]} less that of {control}" for name in compared),
        *(["seeds compared"] if compared else []),
    ]
    cells = [
        [
            Cell(model),
            number(rows[model, names[0]], "seeds", form=".0f"),
            *(number(rows.get((model, name), {}), "value", BOTH, form=".3f") for name in names),
            *(number(rows.get((model, name), {}), "difference", ENDS, form="+.3f") for name in compared),
            *(number(rows.get((model, name), {}), "seeds_compared", form=".0f") for name in compared[:1]),
        ]
        for model in models
    ]
    nulls = [number(rows.get((models[0], name), {}), "null", form=".3f") for name in names]
    last = [Cell("-")] * (len(head) - 2 - len(nulls))
    cells.append([Cell(f"null of {models[0]}"), Cell("-"), *nulls, *last])
    return PageTable("How much two factors share (MI in nats)", head, cells, "evidence-disentanglement.csv")


def _use(models: Sequence[str], rows: _Rows) -> PageTable:
    """Return how much of their attention, gates and directions the models use, and D(r) at each refinement step."""
    steps = sorted({name for _, name in rows if name.startswith("distance ")})
    head = ["model", *_USE.values(), *(f"D({step.split()[1]})" for step in steps)]
    forms = {name: ".1f" if name == "dead_factors" else ".2f" for name in (*_USE, *steps)}
    cells = [
        [Cell(model), *(number(rows.get((model, name), {}), "value", BOTH, form=form) for name, form in forms.items())]
        for model in models
    ]
    return PageTable("How factors are used", head, cells, "evidence-disentanglement.csv", is_folded=True)


def _disentanglement_figures(page: Page, with_pairs: Sequence[str], rows: _Rows) -> Iterator[tuple[Markup, str]]:
    drawn = [name for name in _DRAWN if _any(rows, name)]
    if drawn:
        panels = [
            Rows(
                _DRAWN[name],
                with_pairs,
                [Series("", [mark_of(rows.get((model, name), {}), "value") for model in with_pairs], is_first=True)],
                ticks=[known(rows.get((model, name), {}).get("null")) for model in with_pairs],
            )
            for name in drawn
        ]
        described = "; ".join(
            f"{model}: {_DRAWN[name]} {rows[model, name]['value']:.3f}"
            for name in drawn
            for model in with_pairs
            if (model, name) in rows
        )
        caption = "How much two factors share, mean over pairs; the bar | is the null of permuted users."
        yield rows_figure(page.figure_name("pairs"), panels, described), caption
    steps = sorted({name for _, name in rows if name.startswith("distance ")})
    if len(steps) > 1:
        chosen = page.drawn(with_pairs)
        series = [
            Series(model, [mark_of(rows.get((model, step), {}), "value") for step in steps], model == page.reference)
            for model in chosen
        ]
        panel = Lines("distance D(r)", [int(step.split()[1]) for step in steps], series, "refinement step r")
        described = f"mean distance of unit factors at {len(steps)} steps for {', '.join(chosen)}"
        drawing = lines_figure(page.figure_name("distance"), [panel], described)
        yield drawing, "Distance of the factors at each refinement step; √2 where they are orthogonal."


def profiles(page: Page) -> Iterator[Section]:
    """Yield the section on what each factor of the reference stands for, run by run."""
    table = page.table("profiles")
    if table.is_empty():
        return
    of_seeds: dict[int, list[dict[str, Any]]] = {}
    for row in table.filter(pl.col("model") == page.reference).to_dicts():
        of_seeds.setdefault(row["seed"], []).append(row)
    head = ["factor", "called", "votes for", "gate", "recency", "popularity", "reads more", "typical items"]
    tables = [
        PageTable(
            f"Factors of {page.reference}, seed {seed}",
            head,
            [
                [
                    Cell(str(row["factor"])),
                    Cell(row["name"], is_prose=True),
                    Cell(row["votes_for"] or "-", is_prose=True),
                    number(row, "gate", form=".0%"),
                    number(row, "recency", ("recency_low", "recency_high"), form="+.2f"),
                    number(row, "popularity", ("popularity_low", "popularity_high"), form="+.3f"),
                    Cell(row["reads_more"] or "-", is_prose=True),
                    Cell(row["items"] or "-", is_prose=True),
                ]
                for row in rows
            ],
            "evidence-profiles.csv",
            is_folded=place > 0,
        )
        for place, (seed, rows) in enumerate(of_seeds.items())
    ]
    yield Section("What does each factor stand for?", NOTES["profiles"], page.claims("profiles"), [], tables)


def interventions(page: Page) -> Iterator[Section]:
    """Yield the section on what lists lose when thoughts are changed."""
    table = page.table("interventions")
    if table.is_empty():
        return
    pooled = table.filter((pl.col("seed") == "all") & (pl.col("slice") == "all")).to_dicts()
    models = list(dict.fromkeys(row["model"] for row in pooled))
    kinds = list(dict.fromkeys(row["intervention"] for row in pooled))
    rows = {(row["model"], row["intervention"]): row for row in pooled}
    head = ["model", *kinds, "of five stay, thought swapped"]
    cells = [
        [
            Cell(model),
            *(number(rows.get((model, kind), {}), "change", BOTH, form="+.4f") for kind in kinds),
            number(rows.get((model, "swap thought"), {}), "kept", form=".0%"),
        ]
        for model in models
    ]
    tables = [PageTable("Change of NDCG@10 by what is done to a thought", head, cells, "evidence-interventions.csv")]
    tables += [*_single_factors(page, table), *_effects_by_slice(page, table), *_oracle(page)]
    series = [
        Series(model, [mark_of(rows.get((model, kind), {}), "change") for kind in kinds], model == page.reference)
        for model in page.drawn(models)
    ]
    described = "; ".join(f"{kind}: {rows[model, kind]['change']:+.4f} ({model})" for model, kind in rows)
    drawing = rows_figure(page.figure_name("effects"), [Rows("change of NDCG@10", kinds, series, zero=True)], described)
    yield Section(
        "Does the list depend on the thought, on what factors read, and on each of them?",
        NOTES["interventions"],
        page.claims("interventions"),
        [(drawing, "Change of NDCG@10; left of the line the list is worse for it.")],
        tables,
    )


def _single_factors(page: Page, table: pl.DataFrame) -> Iterator[PageTable]:
    of_runs = table.filter((pl.col("seed") != "all") & (pl.col("model") == page.reference))
    single = of_runs.filter(pl.col("intervention").str.contains(r" \d+$")).to_dicts()
    cells = [
        [
            Cell(f"seed {row['seed']}, {row['intervention']}"),
            number(row, "change", BOTH, form="+.4f"),
            number(row, "kept", form=".0%"),
            count(row["targets"]),
        ]
        for row in single
    ]
    if cells:
        head = ["run and change", "change of NDCG@10", "of five stay", "targets"]
        title = f"Single factors of {page.reference}, run by run"
        yield PageTable(title, head, cells, "evidence-interventions.csv", is_folded=True)


def _effects_by_slice(page: Page, table: pl.DataFrame) -> Iterator[PageTable]:
    told = ("swap thought", SWAPPED_VOTES, "remove any factor")
    kinds = [kind for kind in told if kind in table["intervention"].to_list()]
    pooled = table.filter((pl.col("seed") == "all") & (pl.col("model") == page.reference))
    rows = {(row["slice"], row["label"], row["intervention"]): row for row in pooled.to_dicts()}
    places = places_of([row[:2] for row in rows])
    if not kinds or len(places) < 2:
        return
    cells = [
        [
            Cell(place_name(*place)),
            count(rows[*place, kinds[0]]["targets"]),
            *(number(rows[*place, kind], "change", BOTH, form="+.4f") for kind in kinds),
        ]
        for place in places
    ]
    title = f"The same by kind of target, {page.reference}"
    yield PageTable(title, ["targets that are", "targets", *kinds], cells, "evidence-interventions.csv", True)


def _oracle(page: Page) -> Iterator[PageTable]:
    table = page.table("oracle")
    if table.is_empty():
        return
    cells = [
        [
            Cell(row["model"]),
            number(row, "full"),
            number(row, "best_fixed"),
            number(row, "oracle"),
            number(row, "gain", BOTH, form="+.4f"),
        ]
        for row in table.to_dicts()
    ]
    head = ["model", "as it is", "best single factor", "best per target (ceiling)", "ceiling less as it is"]
    title = (
        "NDCG@10 with one factor alone, chosen on other users, or for every target by its answer, which is luck in "
        "part; the ceiling is that of choosing one, not of mixing them"
    )
    yield PageTable(title, head, cells, "evidence-oracle.csv")


def stability(page: Page) -> Iterator[Section]:
    """Yield the section on whether seeds find the same factors."""
    table = page.table("stability")
    if table.is_empty():
        return
    pooled = table.filter(pl.col("seeds") == "all").to_dicts()
    models = list(dict.fromkeys(row["model"] for row in pooled))
    measures = list(dict.fromkeys(row["measure"] for row in pooled))
    rows = {(row["model"], row["measure"]): row for row in pooled}
    cells = [
        [
            Cell(row["model"]),
            Cell(row["measure"]),
            number(row, "matched", form=".3f"),
            number(row, "random", form=".3f"),
            number(row, "identity", BOTH, form=".2f"),
            number(row, "untrained", form=".2f"),
            number(row, "agreement", form=".0%"),
        ]
        for row in pooled
    ]
    head = ["model", "compared by", "matched", "random", "identity", "before training", "halves agree"]
    panels = [
        Rows(
            f"identity by {measure}",
            models,
            [Series("", [mark_of(rows.get((model, measure), {}), "identity") for model in models], is_first=True)],
            zero=True,
            span=(0.0, 1.0),
        )
        for measure in measures
    ]
    known = {key: row["identity"] for key, row in rows.items() if row["identity"] is not None}
    described = "; ".join(f"{model}, {measure}: {value:.2f}" for (model, measure), value in known.items())
    drawing = rows_figure(page.figure_name("identity"), panels, described)
    yield Section(
        "Are factors the same across seeds?",
        NOTES["stability"],
        page.claims("stability"),
        [(drawing, "Identity of factors between seeds: 0 as random, 1 the same.")],
        [PageTable("Factors between seeds, mean over pairs of runs", head, cells, "evidence-stability.csv")],
    )


def _any(rows: _Rows, statistic: str) -> bool:
    return any(name == statistic for _, name in rows)
