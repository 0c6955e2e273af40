"""Every curl line of docs/serving.md does what it says on films that are numbered and described as MovieLens-100K's."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flr.recommender import Recommender
from flr.records import Catalogue
from flr.serving.security import new_key
from flr.serving.service import Service
from flr.serving.settings import ServeSettings
from serving.conftest import listening, served
from toy import UNSET, toy_catalogue, toy_model, toy_tokenizer

DOCUMENT = Path(__file__).parents[2] / "docs" / "serving.md"
#: Rows of the data set as RecBole ships it and `flr prepare ml-100k` titles them: id, title, year, genres.
FILMS = [
    ("1", "Toy Story (1995)", "1995", "Animation Children's Comedy"),
    ("50", "Star Wars (1977)", "1977", "Action Adventure Romance Sci-Fi War"),
    ("95", "Aladdin (1992)", "1992", "Animation Children's Comedy Musical"),
    ("176", "Aliens (1986)", "1986", "Action Sci-Fi Thriller War"),
    ("183", "Alien (1979)", "1979", "Action Horror Sci-Fi Thriller"),
    ("273", "Heat (1995)", "1995", "Action Crime Thriller"),
    ("665", "Alien 3 (1992)", "1992", "Action Horror Sci-Fi Thriller"),
]


def films() -> Recommender:
    ids, titles, years, genres = zip(*FILMS, strict=True)
    model, compiled, config = toy_model(*UNSET, titles=list(titles))
    plain = toy_catalogue(list(titles))
    attributes = pl.DataFrame({"release_year": years, "category": genres})
    catalogue = Catalogue(np.array(ids, dtype=object), plain.titles, plain.leaf, plain.leaf_titles, attributes)
    return Recommender(model, toy_tokenizer(compiled.catalogue, config), catalogue, config)


def shell_lines() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_every_curl_line_works(tmp_path: Path) -> None:
    lines = [shlex.split(line) for line in shell_lines()]
    assert len(lines) > 10
    with served(films(), ServeSettings(journal=tmp_path / "journal")) as client:
        for line in lines:
            assert line[:2] == ["curl", "-s"]
            url = next(word for word in line if word.startswith("localhost:8000/"))
            body = line[line.index("-d") + 1] if "-d" in line else None
            method = line[line.index("-X") + 1] if "-X" in line else "GET" if body is None else "POST"
            headers = dict(line[place + 1].split(": ") for place, word in enumerate(line) if word == "-H")
            content = None if body is None else body.encode()
            path = url.removeprefix("localhost:8000")
            response = client.request(method, path, content=content, headers=headers)
            expected = 404 if path == "/v1/factors" else 201 if (method, path) == ("POST", "/v1/items") else 200
            assert response.status_code == expected, (line, response.text)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_a_shell_runs_the_line_that_sends_a_key_and_is_refused_without_one(tmp_path: Path) -> None:
    key = new_key(tmp_path / "keys.json", "read")
    (line,) = (line for line in shell_lines() if "$KEY" in line)
    with listening(Service(films(), ServeSettings(keys=tmp_path / "keys.json"))) as url:

        def status(key: str) -> str:
            here = f"{line.replace('localhost:8000', url)} -o answer -w '%{{http_code}}'"
            options = {"cwd": tmp_path, "env": {**os.environ, "KEY": key, "no_proxy": "*"}}
            return subprocess.run(
                here, shell=True, capture_output=True, text=True, timeout=60, check=True, **options
            ).stdout

        assert status(key) == "200"
        assert '"Aliens (1986)"' in (tmp_path / "answer").read_text(encoding="utf-8")
        assert status("wrong") == "401"


def test_the_limits_that_are_told_are_those_that_hold() -> None:
    from flr.serving import contract

    text = DOCUMENT.read_text(encoding="utf-8").replace("\n", " ")
    assert (
        f"At most {contract.MOST_HISTORIES} histories of {contract.MOST_HISTORY_ITEMS:,} items a request, "
        f"k up to {contract.MOST_K}, 512 characters an id, {contract.MOST_ITEMS_PER_EDIT:,} items an edit." in text
    )
    assert f"`--max-queued` ({ServeSettings().max_queued} histories)" in text
