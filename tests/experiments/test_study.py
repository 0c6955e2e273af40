"""A whole study of a toy world: a known answer, resumed without training again, failures told."""

from __future__ import annotations

import csv
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flr.catalogue.titles import build_catalogue
from flr.cli.main import app
from flr.data.storage import load_prepared
from flr.errors import ArtifactError, ConfigError
from flr.experiments.jobs import usable_cores
from flr.experiments.matching import matched_cells
from flr.experiments.matrix import MATCHED_WITHIN, Study
from flr.experiments.quick import quick_study
from flr.experiments.study import is_done, run_study, study_jobs
from flr.experiments.study_report import StudyReport
from flr.recommender import Recommender
from flr.training.estimate import n_weights
from toy import prepared_ring


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@dataclass(frozen=True)
class Command:
    """What `flr study --quick` printed, what it came to, and how long it took."""

    printed: str
    report: StudyReport
    seconds: float


@pytest.fixture(scope="module")
def command(folder: Path) -> Command:
    came_to: list[StudyReport] = []

    def run(*arguments: Any, **options: Any) -> StudyReport:
        came_to.append(run_study(*arguments, **options))
        return came_to[0]

    started = time.perf_counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flr.experiments.study.run_study", run)
        result = CliRunner().invoke(app, ["study", "--quick", "--output", str(folder)])
    assert result.exit_code == 0, result.output
    return Command(result.output, came_to[0], time.perf_counter() - started)


@pytest.fixture(scope="module")
def report(command: Command) -> StudyReport:
    return command.report


@pytest.mark.slow
def test_the_command_shows_what_was_found(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():  # no limit: it says as much about the machine
        print(f"\nflr study --quick: {command.seconds:.0f} s on {usable_cores()} cores")  # noqa: T201
    lines = command.printed.splitlines()
    (found,) = command.report.findings
    for claim in found.claims:
        assert any(line.startswith(f"{claim.rival} ") and claim.verdict in line and " flr " in line for line in lines)
    for told in command.report.evidence[0].claims:
        assert any(told.claim[:30] in line for line in lines)
    assert f"the report: {command.report.page}" in lines


def test_the_answer_is_found(report: StudyReport) -> None:
    assert report.failed == ()
    (found,) = report.findings
    claims = {claim.rival: claim for claim in found.claims}
    for rival in (
        "popularity",
        "last-item-markov",
    ):  # the last item alone says nothing, so whoever looks no further loses
        assert claims[rival].comparison.difference.mean > 0.05
        assert claims[rival].comparison.signed_rank_p_value < 1e-6
        assert claims[rival].verdict != "does not hold"
    assert set(claims) == {
        "single vector",
        "no thought",
        "no regularisers",
        "flr, stage two",
        "popularity",
        "last-item-markov",
        "item-knn",
    }
    assert found.missing == ()


def test_the_report_says_so(report: StudyReport, folder: Path) -> None:
    page, text = report.page.read_text(), report.text.read_text()
    for part in (page, text):
        for claim in report.findings[0].claims:
            assert f"{claim.model} is better than {claim.rival}" in part
        assert "whether flr is better than the baselines: " in part
        assert "compared on fewer than 5 seeds: single vector (2), " in part
        assert found_hash(report)[:16] in part
    assert "<script src" not in page
    assert "http" not in page.split("</head>")[1]
    assert "src=" not in page
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert [row["model"] for row in rows][:1] == ["flr"]
    assert float(rows[0]["ndcg@10"]) == pytest.approx(report.findings[0].models[0].figures["ndcg@10"].mean)
    latex, claims = (folder / "results.tex").read_text(), report.findings[0].claims
    assert latex.count(r"\textbf{") == sum(claim.verdict == "holds" for claim in claims)
    assert latex.count(" & flr & ") == 1 + len(claims)  # itself, and what all others are compared with
    assert all(f" to {claim.comparison.difference.high:+.4f} & {claim.detectable:.4f} & " in latex for claim in claims)


def test_the_report_counts_the_assistant_and_the_baselines(report: StudyReport, folder: Path) -> None:
    rows = {row["model"]: row for row in csv.DictReader((folder / "results.csv").open())}
    names = ("flr", "single vector", "no regularisers")  # a seed has none where validation loses by it
    runs = {name: (folder / "runs" / "toy" / "-".join(name.split())).iterdir() for name in names}
    models = ((name, Recommender.load(run).model) for name, of_seeds in runs.items() for run in of_seeds)
    name, ours = next((name, model) for name, model in models if model.assistant is not None)
    own, both = (int(rows[name][column]) for column in ("weights", "weights with assistant"))
    assert own == ours.count_parameters()[0]
    assert ours.assistant is not None
    assert both - own > sum(weights.numel() for weights in ours.assistant.parameters()) > 0
    assert rows["no thought"]["weights"] == rows["no thought"]["weights with assistant"]  # no memory, no assistant
    assert rows["popularity"]["weights"] == ""
    assert f"| {name} | 2 | {own:,} | {both:,} | " in report.text.read_text()
    assert (
        f'<td data-label="weights">{own:,} <span class="error">{both:,} with assistant</span></td>'
        in report.page.read_text()
    )


def test_every_question_has_a_verdict_and_its_figures(report: StudyReport, folder: Path) -> None:
    (found,) = report.evidence
    claims = {claim.claim: claim for claim in found.claims}
    assert [claim.partition(" ")[0] for claim in claims] == ["The", "The", "Each", "Factors", "flr", "Factors"]
    # Two seeds have no interval of their own.
    assert claims["Factors of flr are the same across seeds, and more so than before training"].verdict == "undecided"
    page, text = report.page.read_text(), report.text.read_text()
    for claim in found.claims:
        assert claim.told in text
        assert f"{claim.claim}: **{claim.verdict}**" in text
        assert f"{claim.claim}: <strong>{claim.verdict}</strong>" in page
    assert page.count("<svg") == 8  # models, pairs, D(r), effects, identity, robustness near and of others, slices
    assert page.count("<details>") == 4
    assert "What does each factor stand for?" in page


def test_tables_have_the_numbers_of_their_files(report: StudyReport, folder: Path) -> None:
    (found,) = report.evidence
    text = report.text.read_text()
    for name, table in found.tables.items():
        rows = list(csv.DictReader((folder / f"evidence-{name}.csv").open()))
        assert len(rows) == len(table) > 0
        assert {row["data"] for row in rows} == {"toy"}
    rows = {
        (row["model"], row["strain"], row["strength"]): row
        for row in csv.DictReader((folder / "evidence-robustness.csv").open())
    }
    (line,) = [line for line in text.splitlines() if line.startswith("| item-knn | ") and "to" in line.split("|")[3]]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    worst = rows["item-knn", "all damages", "0.0"]
    assert cells[1] == worst["seeds"] == "2"
    assert cells[2].startswith(f"{100 * float(worst['loss']):.1f} ({100 * float(worst['low']):.1f} to ")
    assert cells[3].startswith(f"{100 * float(worst['difference']):+.1f} (")
    inserted = rows["item-knn", "insert", "0.5"]
    assert cells[4].startswith(f"{100 * float(inserted['difference']):+.1f} (")
    assert f"item-knn & {cells[1]} & {cells[2]} & {cells[3]}" in (folder / "evidence-robustness.tex").read_text()


def test_each_claim_names_the_file_that_holds_its_figures(report: StudyReport, folder: Path) -> None:
    claims = list(csv.DictReader((folder / "claims.csv").open()))
    assert len(claims) == 6 + len(report.findings[0].claims)
    for claim in claims:
        held = {cell for row in csv.reader((folder / claim["source"]).open()) for cell in row}
        assert claim["value"] in held
        assert claim["verdict"] in {"holds", "does not hold", "undecided"}


def test_what_a_kill_left_undone_is_all_that_is_done_again(report: StudyReport, folder: Path) -> None:
    """As after a kill: one instrument of one model without its last file, and no report."""
    before = written(folder)
    evidence = folder / "runs" / "toy" / "flr" / "seed-1" / "evidence"
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("evidence/*")}
    (evidence / "interventions.json").unlink()
    report.page.unlink()
    run_study(quick_study(folder), folder)
    later = {path for path in folder.rglob("evidence/*") if path.stat().st_mtime_ns != times[path]}
    assert later == {evidence / "interventions.json", evidence / "interventions.parquet"}
    assert written(folder) == before


def written(folder: Path) -> dict[str, str]:
    """Return the report and all its tables; the hours spent on evidence are not of this kind."""
    paths = [path for path in folder.iterdir() if path.suffix in {".html", ".md", ".csv", ".tex"}]
    return {path.name: re.sub(r"[\d.]+ hours of all models", "", path.read_text()) for path in paths}


def found_hash(report: StudyReport) -> str:
    return report.findings[0].data_hash


def test_nothing_is_trained_again(report: StudyReport, folder: Path) -> None:
    logs = {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}
    assert len(logs) == 10
    again = run_study(quick_study(folder), folder, jobs=1)
    assert [claim.corrected for claim in again.findings[0].claims] == [
        claim.corrected for claim in report.findings[0].claims
    ]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")} == logs


def test_what_fails_is_told_and_does_not_stop_the_rest(report: StudyReport, folder: Path) -> None:
    changed = quick_study(folder).model_dump()
    changed["variants"]["single vector"]["settings"]["training.max_steps"] = 3
    told = run_study(Study.model_validate(changed), folder, jobs=1)
    assert [line.partition(":")[0] for line in told.failed] == [
        "toy, single vector, seed 0",
        "toy, single vector, seed 1",
    ]
    assert "was trained with other settings than the study has now" in told.failed[0]


def test_a_cell_of_other_data_is_not_taken_for_done(report: StudyReport, folder: Path, tmp_path: Path) -> None:
    study = quick_study(folder)
    cell = next(matched_cells(study, folder))
    assert is_done(cell, study.data["toy"].folder)
    with pytest.raises(ArtifactError, match="was trained on other data"):
        is_done(cell, prepared_ring(tmp_path / "data"))


def test_weights_are_matched_to_one_per_cent(folder: Path) -> None:
    study = quick_study(folder)
    catalogue = build_catalogue(load_prepared(study.data["toy"].folder).items)
    counts = {cell.variant: n_weights(cell.config, catalogue) for cell in matched_cells(study, folder)}
    assert all(abs(n - counts["flr"]) <= MATCHED_WITHIN * counts["flr"] for n in counts.values())
    unequal = study.model_dump()
    unequal["variants"]["no thought"]["match"] = "none"
    with pytest.raises(ConfigError, match=r"variant 'no thought' has [\d,]+ weights, the reference 'flr' [\d,]+"):
        list(matched_cells(Study.model_validate(unequal), folder))


def test_alpharec_waits_for_who_reads_titles(tmp_path: Path) -> None:
    study = quick_study(tmp_path).model_copy(update={"baselines": ("alpharec",)})
    for titles_from, waits_for in ((None, "flr"), ("smollm2-135m", None)):
        of_reader = study.model_copy(update={"titles_from": titles_from})
        (job, *_) = [job for job in study_jobs(of_reader, tmp_path) if "alpharec" in job.name]
        assert [path.parent.name for path in job.after] == ([] if waits_for is None else [waits_for])


def test_assisted_transitions_wait_for_the_assistant_of_the_reference(tmp_path: Path) -> None:
    study = quick_study(tmp_path).model_copy(update={"baselines": ("assisted-transitions",)})
    for settings, waits_for in (({}, ["flr"]), ({"assistant.networks": []}, [])):
        of_assistant = study.model_copy(update={"settings": {**study.settings, **settings}})
        (job, *_) = [job for job in study_jobs(of_assistant, tmp_path) if "assisted-transitions" in job.name]
        assert [path.parent.name for path in job.after] == waits_for
