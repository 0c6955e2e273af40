"""The entry point: which commands there are."""

from __future__ import annotations

from typing import Annotated

import typer

from flr import __version__
from flr.cli import console
from flr.cli.audit import audit
from flr.cli.baselines import baselines
from flr.cli.compare import compare
from flr.cli.demo import demo
from flr.cli.doctor import doctor
from flr.cli.evaluate import evaluate
from flr.cli.explain import explain
from flr.cli.fetch import fetch
from flr.cli.guard import guarded
from flr.cli.prepare import prepare
from flr.cli.profile import profile
from flr.cli.recommend import recommend
from flr.cli.serve import key, serve
from flr.cli.study import study
from flr.cli.train import train

app = typer.Typer(
    name="flr",
    help="Factorized Latent Reasoning: recommend by thinking in preference factors, then writing a title.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    fetch,
    prepare,
    audit,
    train,
    evaluate,
    baselines,
    compare,
    recommend,
    explain,
    profile,
    serve,
    key,
    study,
    demo,
    doctor,
):
    app.command()(guarded(command))


def _show_version(wanted: bool) -> None:
    if wanted:
        console.show_line(f"flr {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Factorized Latent Reasoning: recommend by thinking in preference factors, then writing a title."""


def main() -> None:
    """Run the command line; the exit code is 0, 2 for what a user can mend, 130 when interrupted, 1 for a bug."""
    app()
