"""Files out of wheels, without a network: pip is replaced by a stub that copies a local wheel."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from flr.errors import FetchError, StorageError
from flr.fetching import WebFile, cache_folder, fetch_web_files, fetch_wheel_members
from flr.persistence import file_sha256, new_folder
from flr.progress import Silent, Step

MEMBERS = {"toy/data/rows.inter": "rows.inter", "toy/data/rows.item": "rows.item"}
Pip = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "mirror" / "toy-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toy/data/rows.inter", "user_id:token\n1\n")
        archive.writestr("toy/data/rows.item", "item_id:token\n7\n")
        archive.writestr("toy/../../evil.txt", "evil")
    return path


@pytest.fixture
def pip_calls(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    monkeypatch.setenv("FLR_CACHE", str(tmp_path / "cache"))
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        shutil.copy(wheel, command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def failing_pip(stderr: str) -> Pip:
    return lambda command, **_: subprocess.CompletedProcess(command, 1, "", stderr)


def fetch(wheel: Path, members: dict[str, str] | None = None, sha256: str | None = None) -> Path:
    return fetch_wheel_members("toy==1.0", sha256 or file_sha256(wheel), members or MEMBERS, "toy-rows")


def test_files_are_fetched_once_and_read_offline_afterwards(wheel: Path, pip_calls: list[list[str]]) -> None:
    folder = fetch(wheel)
    assert folder == cache_folder() / "toy-rows"
    assert sorted(path.name for path in folder.iterdir()) == ["fetched.json", "rows.inter", "rows.item"]
    assert (folder / "rows.item").read_text() == "item_id:token\n7\n"
    assert fetch(wheel) == folder
    assert len(pip_calls) == 1
    assert pip_calls[0][1:4] == ["-m", "pip", "download"]
    assert pip_calls[0][-1] == "toy==1.0"


@pytest.mark.parametrize("damage", ["changed", "removed", "no receipt"])
def test_a_damaged_cache_is_fetched_again(wheel: Path, pip_calls: list[list[str]], damage: str) -> None:
    folder = fetch(wheel)
    if damage == "changed":
        (folder / "rows.item").write_text("item_id:token\n8\n")
    else:
        (folder / ("rows.item" if damage == "removed" else "fetched.json")).unlink()
    assert (fetch(wheel) / "rows.item").read_text() == "item_id:token\n7\n"
    assert len(pip_calls) == 2


def test_a_wheel_put_there_by_hand_needs_no_pip(
    wheel: Path, pip_calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache_folder() / "wheels").mkdir(parents=True)
    shutil.copy(wheel, cache_folder() / "wheels")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert (fetch(wheel) / "rows.inter").exists()
    assert pip_calls == []


def test_two_that_fetch_at_once_are_both_served(
    wheel: Path, pip_calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def beaten(path: Path, *, overwrite: bool) -> Iterator[Path]:
        with new_folder(path, overwrite=overwrite) as folder:  # that of another process, which is quicker
            yield folder
        raise StorageError("Directory not empty")

    monkeypatch.setattr("flr.fetching.new_folder", beaten)
    assert (fetch(wheel) / "rows.inter").read_text(encoding="utf-8").startswith("user_id")
    assert len(pip_calls) == 1


def test_a_full_disk_is_no_other_process(
    wheel: Path, pip_calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def full(path: Path, *, overwrite: bool) -> Iterator[Path]:
        raise StorageError("no space left")
        yield path

    monkeypatch.setattr("flr.fetching.new_folder", full)
    with pytest.raises(StorageError, match="no space left"):
        fetch(wheel)
    assert pip_calls


@pytest.mark.usefixtures("pip_calls")
def test_a_wrong_checksum_is_an_error_and_nothing_is_kept(wheel: Path) -> None:
    with pytest.raises(FetchError, match=rf"has SHA-256 {file_sha256(wheel)}, expected {'0' * 64}"):
        fetch(wheel, sha256="0" * 64)
    assert not (cache_folder() / "toy-rows").exists()


@pytest.mark.usefixtures("pip_calls")
def test_a_missing_member_is_an_error(wheel: Path) -> None:
    with pytest.raises(FetchError, match=r"nowhere\.txt"):
        fetch(wheel, {"toy/nowhere.txt": "x"})
    assert not (cache_folder() / "toy-rows").exists()


@pytest.mark.usefixtures("pip_calls")
def test_no_network_names_the_way_by_hand(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = "WARNING: Retrying\nERROR: No matching distribution found for toy==1.0\n"
    monkeypatch.setattr(subprocess, "run", failing_pip(noise))
    with pytest.raises(FetchError, match=r"'toy==1.0': ERROR: No matching .*by hand.*put the wheel into .*wheels"):
        fetch(wheel)


@pytest.mark.usefixtures("pip_calls")
def test_no_pip_names_the_remedy(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FetchError, match=r"has no pip; run .* -m ensurepip"):
        fetch(wheel)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FLR_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "flr"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "flr"
    monkeypatch.setenv("FLR_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A web server on this machine that holds a few files; requests are counted in `Site.asked`."""
    monkeypatch.setenv("FLR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "rows.csv").write_text("user_id\n1\n")
    with zipfile.ZipFile(tmp_path / "site" / "rows.zip", "w") as archive:
        archive.writestr("rows/a.dat", "a" * 3_000_000)
        archive.writestr("rows/b.dat", "b")
    Site.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory=str(tmp_path / "site")))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Site(SimpleHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        Site.asked.append(self.path)
        if self.path == "/cut.csv":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"short")
            return
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


def test_files_at_an_address_are_fetched_once(site: str) -> None:
    files = [WebFile(f"{site}/rows.csv"), WebFile(f"{site}/rows.zip", members={"rows/a.dat": "a.dat"})]
    told: list[int] = []

    class Told(Silent):
        @contextmanager
        def task(self, name: str, total: int | None = None) -> Iterator[Step]:
            yield lambda n=1, note="": told.append(n)

    folder = fetch_web_files(files, "rows", progress=Told())
    assert sorted(path.name for path in folder.iterdir()) == ["a.dat", "fetched.json", "rows.csv"]
    assert (folder / "a.dat").stat().st_size == 3_000_000
    assert sum(told) > 3_000
    assert fetch_web_files(files, "rows") == folder
    assert Site.asked == ["/rows.csv", "/rows.zip"]
    (folder / "a.dat").write_text("damaged")
    fetch_web_files(files, "rows")
    assert (folder / "a.dat").stat().st_size == 3_000_000


def test_a_file_at_hand_is_not_fetched(site: str, tmp_path: Path) -> None:
    mine = tmp_path / "rows.csv"
    mine.write_text("user_id\n7\n")
    folder = fetch_web_files([WebFile(f"{site}/rows.csv")], "rows", at_hand=[mine])
    assert (folder / "rows.csv").read_text() == "user_id\n7\n"
    assert not Site.asked
    for wrong, said in (
        (tmp_path / "other.csv", r"is none of rows\.csv"),
        (tmp_path / "no" / "rows.csv", "is not there"),
    ):
        with pytest.raises(FetchError, match=said):
            fetch_web_files([WebFile(f"{site}/rows.csv")], "rows", at_hand=[wrong])


@pytest.mark.parametrize(
    ("name", "said"),
    [("gone.csv", "404"), ("cut.csv", "IncompleteRead"), ("rows.zip", "its publisher states 00ff")],
)
def test_what_cannot_be_fetched_names_the_address_and_leaves_nothing(name: str, said: str, site: str) -> None:
    with pytest.raises(FetchError, match=said) as caught:
        fetch_web_files([WebFile(f"{site}/{name}", md5="00ff")], "rows")
    assert f"{site}/{name}" in str(caught.value)
    assert not (cache_folder() / "rows").exists()


def test_without_a_network_the_error_says_what_to_do() -> None:
    with pytest.raises(FetchError, match=r"cannot fetch http://127\.0\.0\.1:9/rows\.csv.*--from-file"):
        fetch_web_files([WebFile("http://127.0.0.1:9/rows.csv")], "nowhere")
