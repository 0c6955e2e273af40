"""The page of a server: what a browser sees at ``/``.

The page holds nothing of the catalogue or the model: it asks the same API as everybody else, with the same key. So it
is given to anyone, and tells no secret where keys are needed. Its templates and assets are files of this package: no
build, nothing from other hosts. The path of the assets holds their hash, so browsers keep them and still get new ones.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

import jinja2
from fastapi import FastAPI
from starlette.responses import Response

from flr import __version__
from flr.serving.problems import ProblemError
from flr.serving.service import Service

_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: Own files only, nothing inline, and no text that is taken for markup by a script.
CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)


@dataclass(frozen=True)
class Asset:
    """A file that the page needs.

    Attributes:
        content: Its bytes.
        media_type: Its type.
    """

    content: bytes
    media_type: str


@cache
def assets() -> dict[str, Asset]:
    """Return the files of the page by their names."""
    found = {}
    for file in sorted(files(__name__).joinpath("assets").iterdir(), key=lambda one: one.name):
        media_type = _MEDIA_TYPES.get("." + file.name.rpartition(".")[2])
        if media_type is not None:
            found[file.name] = Asset(file.read_bytes(), media_type)
    return found


@cache
def assets_version() -> str:
    """Return a hash of all assets: modules name one another, so they change their path together."""
    digest = hashlib.sha256()
    for name, asset in assets().items():
        digest.update(f"{name} {len(asset.content)} ".encode() + asset.content)
    return digest.hexdigest()[:12]


def render_page(*, needs_key: bool) -> str:
    """Return the page.

    Args:
        needs_key: Whether the API asks for a key, and so the page for one.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__name__),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [name for name in assets() if name.endswith(".js")]
    return environment.get_template("page.html.j2").render(
        assets=f"assets/{assets_version()}", needs_key=needs_key, scripts=scripts, version=__version__
    )


def add_pages(app: FastAPI, service: Service) -> frozenset[str]:
    """Add the page and its assets to an application, and return the paths that need no key."""
    page = render_page(needs_key=service.settings.keys is not None)
    headers = {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Cache-Control": "no-cache",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }
    kept = {"Cache-Control": "public, max-age=31536000, immutable"}

    async def show_page() -> Response:
        return Response(page, headers=headers, media_type="text/html; charset=utf-8")

    async def show_asset(version: str, name: str) -> Response:
        asset = assets().get(name)
        if asset is None or version != assets_version():
            raise ProblemError(404, "not-found", "the page has no such file; load the page again")
        return Response(asset.content, headers=kept, media_type=asset.media_type)

    app.add_api_route("/", show_page, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/assets/{version}/{name}", show_asset, methods=["GET", "HEAD"], include_in_schema=False)
    return frozenset({"/", *(f"/assets/{assets_version()}/{name}" for name in assets())})
