"""`flr serve` and `flr key`: a trained run behind HTTP, and the keys of those who may ask it."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import typer

from flr.cli import console
from flr.cli.guard import INTERRUPTED
from flr.errors import ConfigError


def serve(
    *,
    run: Annotated[Path, typer.Option(help="Run folder made by `flr train`, or a saved recommender.")],
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's own need --keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")] = 8000,
    keys: Annotated[Path | None, typer.Option(help="File of API keys, made by `flr key`.")] = None,
    journal: Annotated[
        Path | None, typer.Option(help="File that keeps edits of the catalogue; unset: they are forgotten.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads that one computation uses.")] = 1,
    max_batch: Annotated[int, typer.Option(min=1, max=256, help="Histories computed together at most.")] = 16,
    wait_ms: Annotated[float, typer.Option(min=0, max=1000, help="How long a request waits for company.")] = 0.0,
    max_queued: Annotated[int, typer.Option(min=1, help="Histories that may wait; more are refused with 429.")] = 256,
    cache_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens of histories whose reading is kept; 0 keeps none.")
    ] = 32_768,
    batches: Annotated[
        Literal["exact", "fast"],
        typer.Option(
            help="Where company would change the last bits of an answer (a GPU): exact computes histories one by one, "
            "fast together all the same."
        ),
    ] = "exact",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds after which a request is given up.")] = 10.0,
    keep_alive: Annotated[
        int,
        typer.Option(min=1, help="Seconds that a connection is kept for another request; a proxy's should be fewer."),
    ] = 75,
    weights: Annotated[
        Literal["float32", "bfloat16", "int8"], typer.Option(help="Numbers that the backbone computes with.")
    ] = "float32",
    min_overlap: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the top 10 that smaller weights must keep.")
    ] = 0.9,
    max_body: Annotated[int, typer.Option(min=1_000, help="Bytes of a body at most.")] = 1_000_000,
    max_history: Annotated[int, typer.Option(help="Items of a history at most, from 1 to 1,000.")] = 1_000,
    max_k: Annotated[int, typer.Option(help="Items of a list at most, from 1 to 200.")] = 200,
    rate: Annotated[float, typer.Option(min=0, help="Requests per second of one key or address; 0: no limit.")] = 0.0,
    burst: Annotated[int, typer.Option(min=1, help="Requests it may make at once.")] = 100,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Name that requests may give this server; repeat it. None: any with --keys, without keys only this "
            "machine's own addresses."
        ),
    ] = None,
    forwarded_allow_ips: Annotated[
        list[str] | None,
        typer.Option(
            help="Address or network of a proxy whose X-Forwarded-For says who asks, for --rate and the log; repeat it."
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="Origin whose pages may call the server; repeat it.")
    ] = None,
    page: Annotated[bool, typer.Option(help="Show a page at / to browsers.")] = True,
) -> None:
    """Serve recommendations over HTTP until Ctrl-C; a browser gets a page, programs /openapi.json.

    \b
    Examples:
      flr serve --run runs/ml-100k
      flr serve --run runs/ml-100k --journal runs/edits.journal --port 8080
      flr serve --run runs/ml-100k --host 0.0.0.0 --keys keys.json --rate 20
    """
    from flr.serving.settings import ServeSettings

    settings = ServeSettings(
        host=host,
        port=port,
        keys=keys,
        journal=journal,
        threads=threads,
        max_batch=max_batch,
        wait_ms=wait_ms,
        max_queued=max_queued,
        cache_tokens=cache_tokens,
        batches=batches,
        timeout_seconds=timeout,
        keep_alive_seconds=keep_alive,
        weights=weights,
        min_overlap=min_overlap,
        max_body_bytes=max_body,
        requests_per_second=rate,
        burst=burst,
        max_history=max_history,
        max_k=max_k,
        allowed_hosts=tuple(allowed_host or ()),
        forwarded_allow_ips=tuple(forwarded_allow_ips or ()),
        cors_origins=tuple(cors_origin or ()),
        page=page,
    )
    settings.check()
    settings.check_port()
    try:
        from flr.serving.server import log_json
        from flr.serving.server import serve as serve_forever
        from flr.serving.service import Service
    except ImportError as error:
        raise ConfigError(f"serving needs {error.name}; pip install 'flr[serve]'") from error
    log_json()
    signal.signal(signal.SIGTERM, _stop_loading)
    service = Service.load(run, settings)

    def tell(address: str) -> None:
        if console.is_terminal():  # elsewhere stderr is a log that programs read
            note = settings.weights_note(service.overlap)
            console.show_note(f"serving {service.n_items:,} items at {address}{note}")

    try:
        serve_forever(service, settings, tell)
    except KeyboardInterrupt:  # without the note of other commands: the log has said it
        raise typer.Exit(INTERRUPTED) from None


def _stop_loading(number: int, _: FrameType | None) -> None:
    """End before anything is served: as the first process of a container, a signal is passed over without this."""
    raise SystemExit(128 + number)


def key(
    *,
    file: Annotated[Path, typer.Option(help="File of keys; the new one is added.")] = Path("keys.json"),
    scope: Annotated[Literal["read", "admin"], typer.Option(help="`admin` may also edit the catalogue.")] = "read",
) -> None:
    """Make an API key: it is shown once, the file keeps only its hash.

    To withdraw a key, delete its entry and start the server again.

    \b
    Examples:
      flr key --scope admin
      flr key --file keys.json --scope read
    """
    from flr.serving.security import new_key

    console.show_line(new_key(file, scope))
    console.show_note(f"added to {file}; it is not shown again. Send it as: Authorization: Bearer KEY")
