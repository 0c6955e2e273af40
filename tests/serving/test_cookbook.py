"""Every curl line of docs/serving.md does what it says, in order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from flr.serving.settings import ServeSettings
from serving.conftest import make_recommender, served

DOCUMENT = Path(__file__).parents[2] / "docs" / "serving.md"


def curl_lines() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_every_curl_line_works(tmp_path: Path) -> None:
    lines = curl_lines()
    assert len(lines) > 10
    with served(make_recommender(), ServeSettings(journal=tmp_path / "journal")) as client:
        for line in lines:
            assert line[:2] == ["curl", "-s"]
            url = next(word for word in line if word.startswith("localhost:8000/"))
            body = line[line.index("-d") + 1] if "-d" in line else None
            method = line[line.index("-X") + 1] if "-X" in line else "GET" if body is None else "POST"
            headers = dict([line[line.index("-H") + 1].split(": ")]) if "-H" in line else {}
            content = None if body is None else body.encode()
            path = url.removeprefix("localhost:8000")
            response = client.request(method, path, content=content, headers=headers)
            expected = 404 if path == "/v1/factors" else 201 if (method, path) == ("POST", "/v1/items") else 200
            assert response.status_code == expected, (line, response.text)


def test_the_limits_that_are_told_are_those_that_hold() -> None:
    from flr.serving import contract

    text = DOCUMENT.read_text(encoding="utf-8").replace("\n", " ")
    assert (
        f"At most {contract.MOST_HISTORIES} histories of {contract.MOST_HISTORY_ITEMS:,} items a request, "
        f"k up to {contract.MOST_K}, 512 characters an id, {contract.MOST_ITEMS_PER_EDIT:,} items an edit." in text
    )
    assert f"`--max-queued` ({ServeSettings().max_queued} histories)" in text
