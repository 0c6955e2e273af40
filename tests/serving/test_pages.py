"""The page as it is served: complete, closed to foreign content, and silent about the catalogue."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from starlette.testclient import TestClient

from flr.recommender import Recommender
from flr.serving.app import create_app
from flr.serving.pages import CONTENT_SECURITY_POLICY, add_pages, assets, assets_version, render_page
from flr.serving.security import new_key
from flr.serving.service import Service
from flr.serving.settings import ServeSettings
from serving.conftest import Start, make_recommender, served
from toy import TITLES

ROOT = Path(__file__).parents[2]


class Tags(HTMLParser):
    """All tags of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in names]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    service = Service(make_recommender(), ServeSettings())
    yield service
    service.close()


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    yield TestClient(create_app(service, pages=add_pages), base_url="http://localhost", raise_server_exceptions=False)


@pytest.fixture(params=[False, True], ids=["open", "with keys"])
def tags(request: pytest.FixtureRequest) -> Tags:
    return Tags(render_page(needs_key=request.param))


def test_the_page_allows_its_own_files_only(client: TestClient) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    policy = dict(rule.split(" ", 1) for rule in CONTENT_SECURITY_POLICY.split("; "))
    assert policy.pop("default-src") == "'none'"
    assert set(policy.values()) == {"'self'", "'none'", "'script'"}
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in response.headers
    assert client.head("/").status_code == 200


def test_nothing_is_inline(tags: Tags) -> None:
    assert not tags.named("style")
    assert all(script["src"] for script in tags.named("script"))
    inline = [(tag, name) for tag, attributes in tags.found for name in attributes if re.match(r"on|style$", name)]
    assert inline == []


def test_all_that_the_page_names_is_there(client: TestClient, tags: Tags) -> None:
    named = {attributes[name] for _, attributes in tags.found for name in ("src", "href") if name in attributes}
    own = {path for path in named if path is not None and not path.startswith("#")}
    assert {path.rpartition("/")[2] for path in own} == {*assets(), "openapi.json"}
    for path in own:
        assert client.get(f"/{path}").status_code == 200, path


def test_every_id_that_is_named_is_there_once(tags: Tags) -> None:
    ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in tags.found:
        for name in ("for", "aria-labelledby", "aria-describedby", "aria-controls"):
            assert set((attributes.get(name) or "").split()) <= set(ids)


def test_every_field_has_a_label(tags: Tags) -> None:
    labelled = {attributes.get("for") for attributes in tags.named("label")}
    within = {"diversify", "exclude-seen"}  # inside their labels
    assert {field["id"] for field in tags.named("input", "select")} - labelled == within


def test_scripts_find_what_they_look_for() -> None:
    page = Tags(render_page(needs_key=True))
    ids = {attributes["id"] for _, attributes in page.found if "id" in attributes}
    made = {"factor-0"}
    for name, asset in assets().items():
        assert set(re.findall(r'byId\("([^"]+)"\)', asset.content.decode())) - made <= ids, name


@pytest.mark.parametrize("name", assets())
def test_an_asset_is_kept_by_browsers_and_names_no_other_host(name: str, client: TestClient) -> None:
    response = client.get(f"/assets/{assets_version()}/{name}")
    kinds = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
    assert response.headers["content-type"] == kinds[name.rpartition(".")[2]]
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    text = response.text.replace('"http://www.w3.org/2000/svg"', "")  # the name of a vocabulary, never asked for
    assert not re.search(r"\b(?:https?|wss?|data):|@import|url\(|[\"'(]//", text)


def test_the_page_names_no_other_host(tags: Tags) -> None:
    assert not [value for _, one in tags.found for value in one.values() if value and re.match(r"\w+:|//", value)]


@pytest.mark.parametrize("name", [name for name in assets() if name.endswith(".js")])
def test_scripts_make_no_markup_of_text_and_keep_nothing_but_the_key(name: str) -> None:
    script = assets()[name].content.decode()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|Function\(", script
    )
    assert not re.search(r"localStorage|document\.cookie|indexedDB", script)
    assert ("sessionStorage" in script) == (name == "api.js")


@pytest.mark.parametrize("path", ["other/page.js", "{version}/other.js", "{version}/page.html.j2", "{version}/"])
def test_there_is_no_other_asset(path: str, client: TestClient) -> None:
    response = client.get("/assets/" + path.format(version=assets_version()))
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_without_javascript_the_page_says_so(client: TestClient) -> None:
    assert re.search(r"<noscript>.*JavaScript.*</noscript>", client.get("/").text)


def test_where_keys_are_needed_the_page_needs_none_and_tells_nothing(tmp_path: Path) -> None:
    key = new_key(tmp_path / "keys.json", "read")
    service = Service(make_recommender(), ServeSettings(keys=tmp_path / "keys.json"))
    client = TestClient(create_app(service, pages=add_pages), base_url="http://localhost")
    page = client.get("/")
    assert page.status_code == 200
    assert not [title for title in TITLES if title in page.text]
    assert 'id="key"' in page.text
    assert client.get(f"/assets/{assets_version()}/page.js").status_code == 200
    assert client.post("/").status_code == 405
    for path in (
        "/v1/items",
        "/v1/attributes",
        "/v1/model",
        "/openapi.json",
        "/metrics",
        "/assets/x/page.js",
        "/index.html",
    ):
        assert client.get(path).status_code == 401, path
    assert client.get("/v1/attributes", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    service.close()


def test_the_page_counts_towards_the_rate() -> None:
    service = Service(make_recommender(), ServeSettings(requests_per_second=0.001, burst=2))
    client = TestClient(create_app(service, pages=add_pages), base_url="http://localhost")
    assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]
    service.close()


def test_flr_serve_shows_the_page_unless_told_not_to(start: Start) -> None:
    page = httpx.get(start().url)
    assert page.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert page.text == render_page(needs_key=False)
    assert httpx.get(start("--no-page").url).status_code == 404


def test_without_the_page_there_is_only_the_api(service: Service) -> None:
    response = TestClient(create_app(service), base_url="http://localhost").get("/")
    assert response.status_code == 404
    assert response.json()["type"] == "urn:flr:problem:not-found"


GENRES = pl.DataFrame(
    {
        "genre": ["Drama|War"] * 4 + ["Drama"] * 4 + ["<b>Comedy</b>"] * 3,
        "code": [f"code {number}" for number in range(len(TITLES))],
        "colour": [None] * 2 + ["red"] * (len(TITLES) - 2),
        "rank": [1, 2, 3] * 3 + [1, 2],
    }
)


@contextmanager
def asked_about(attributes: pl.DataFrame, removed: tuple[str, ...] = ()) -> Iterator[TestClient]:
    """Serve the toy films with other attributes, some of the films removed."""
    plain = make_recommender()
    catalogue = replace(plain.catalogue, attributes=attributes)
    recommender = Recommender(plain.model, plain.tokenizer, catalogue, plain.config)
    if removed:
        recommender.remove_items(removed)
    with served(recommender) as client:
        yield client


def attributes_of(client: TestClient, **options: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/v1/attributes", params=options).json()["attributes"]
    return found


def test_filters_find_as_many_items_as_attributes_say() -> None:
    removed = ("i0", "i4", "i9", "i10")
    with asked_about(GENRES, removed) as client:
        found = attributes_of(client)
        assert [one["name"] for one in found] == ["genre", "colour", "rank"]
        for name, value, n_items in [(one["name"], v["value"], v["n_items"]) for one in found for v in one["values"]]:
            asked = {"histories": [["i0"]], "k": 50, "exclude_seen": False, "filters": {"where": {name: [value]}}}
            items = client.post("/v1/recommend", json=asked).json()["lists"][0]["items"]
            assert len(items) == n_items > 0, (name, value)


def test_attributes_come_by_frequency_without_removed_items_and_identifiers() -> None:
    with asked_about(GENRES) as client:
        genre, colour, rank = attributes_of(client)
        counted = [("Drama", 8), ("Drama|War", 4), ("<b>Comedy</b>", 3)]
        assert genre["values"] == [{"value": value, "n_items": n_items} for value, n_items in counted]
        assert (colour["n_values"], rank["values"][2]) == (1, {"value": "3", "n_items": 3})
        client.delete("/v1/items", params={"item_id": ["i0", "i4", "i9", "i10"]})
        genre, colour, rank = attributes_of(client, limit=1)
        drama = {"value": "Drama", "n_items": 6}
        assert genre == {"name": "genre", "n_values": 3, "values": [drama], "numbers": None}
        assert colour["values"] == [{"value": "red", "n_items": 6}]


def test_numbers_have_a_range_and_identifiers_have_none() -> None:
    n = len(TITLES)
    prices = [2.5 * number for number in range(n)]
    measures = GENRES.with_columns(
        pl.Series("price", prices),
        pl.Series("text price", [f" {price:.2f}" for price in prices]),
        pl.Series("decimal price", prices).cast(pl.Decimal(10, 2)),
        pl.Series("sold", [7, 7, 9, *range(100, 100 + n - 3)]),
        pl.Series("some", [None, math.nan, math.inf, *prices[3:]]),
        pl.Series("number", range(n)),
        pl.Series("float number", [float(number) for number in range(n)]),
        pl.Series("year", [str(1990 + number % 3) for number in range(n - 2)] + ["soon", " "]),
        pl.Series("editions", [[1, 2], [2, 3]] * 5 + [[4]]),
        pl.Series("edition", ["1", "late", "late"] * 3 + ["1", "2"]),
        pl.Series("same", [1.5] * n),
        pl.Series("sold on", [date(2026, 1, 1 + number) for number in range(n)]),
        pl.Series("is new", [True, False] * 5 + [True]),
        pl.Series("credits", [[{"name": "x", "rank": number % 3}] for number in range(n)]),
        pl.Series("hash", [b"1"] * n),
        pl.Series("nothing", [None] * n),
        pl.Series("shelf", ["7", "8", "8"] * 3 + ["7", "7"]).cast(pl.Categorical),
    )
    with asked_about(measures, removed=(f"i{n - 1}",)) as client:
        found = {one["name"]: one for one in attributes_of(client)}
        ranges = {name: tuple(one["numbers"].values()) for name, one in found.items() if one["numbers"] is not None}
        price = (0.0, 2.5 * (n - 2))
        assert ranges == {
            "rank": (1, 3),
            "price": price,
            "text price": price,
            "decimal price": price,
            "sold": (7, 100 + n - 5),
            "some": (7.5, price[1]),
            "year": (1990, 1992),
            "editions": (1, 3),
            "shelf": (7, 8),
        }
        assert (found["price"]["values"], found["price"]["n_values"]) == ([], 0)
        assert {"genre", "colour", "edition", "is new"} <= set(found) - set(ranges)
        for name in ("price", "text price", "decimal price"):
            asked = {"histories": [["i0"]], "k": 50, "exclude_seen": False}
            asked["filters"] = {"where": {name: {"min": 5}, "year": {"max": 1991}}}
            items = client.post("/v1/recommend", json=asked).json()["lists"][0]["items"]
            assert {item["item_id"] for item in items} == {f"i{place}" for place in range(2, n - 2) if place % 3 < 2}


def test_a_catalogue_without_shared_attributes_has_no_choices() -> None:
    with asked_about(GENRES.select("code")) as client:
        assert attributes_of(client) == []


def test_titles_that_begin_with_what_is_searched_come_first(client: TestClient) -> None:
    found = client.get("/v1/items", params={"search": "BLUE"}).json()
    assert [item["title"] for item in found["items"]] == ["Blue Velvet (1986)", "Blue (1993)", "The Blue House (1991)"]
    second = client.get("/v1/items", params={"search": "blue", "offset": 2, "limit": 1}).json()
    assert (second["total"], second["items"][0]["title"]) == (3, "The Blue House (1991)")


def test_a_wheel_holds_the_page(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "src" / "flr", source / "src" / "flr", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    pages = ROOT / "src" / "flr" / "serving" / "pages"
    files = {f"flr/serving/pages/{path.relative_to(pages)}" for path in pages.rglob("*.*") if path.suffix != ".pyc"}
    assert len(files) == len(assets()) + 2
    assert files <= held
