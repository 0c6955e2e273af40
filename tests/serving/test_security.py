"""Keys are known by their hashes, and buckets fill with time."""

from __future__ import annotations

import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flr.errors import ConfigError, ReadError
from flr.serving.security import RateLimit, find_key, load_keys, new_key
from flr.serving.settings import ServeSettings


def test_a_key_is_found_by_its_hash_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    reader, admin = new_key(path, "read"), new_key(path, "admin")
    assert reader not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys = load_keys(path)
    found = [find_key(keys, key) for key in (reader, admin)]
    assert [key and key.scope for key in found] == ["read", "admin"]
    for wrong in ("", "x", reader[:-1], reader + "x", reader.replace("flr_", "flr-"), "flr_" + "é" * 9, "flr__"):
        assert find_key(keys, wrong) is None


def test_keys_that_are_made_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_key(path, "read"), range(24)))
    keys = load_keys(path)
    assert len(keys) == 24
    assert all(find_key(keys, key) for key in made)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "is no file of keys"),
        ('{"keys": []}', "holds no key"),
        ('{"keys": [{"key_id": "a", "scope": "root", "sha256": "b"}]}', "scope 'root', expected read or admin"),
    ],
)
def test_a_wrong_file_of_keys_is_named(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises((ReadError, ConfigError), match=said):
        load_keys(tmp_path / "keys.json")
    with pytest.raises(ReadError, match="there is no file of keys"):
        load_keys(tmp_path / "other.json")


def test_a_bucket_lets_a_burst_through_and_fills_with_time() -> None:
    now = [0.0]
    limit = RateLimit(2.0, 3, clock=lambda: now[0])
    assert [limit.wait_seconds("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert limit.wait_seconds("b") == 0
    now[0] = 0.6
    assert limit.wait_seconds("a") == 0
    assert limit.wait_seconds("a") == pytest.approx(0.4)
    now[0] = 100
    assert [limit.wait_seconds("a") > 0 for _ in range(4)] == [False, False, False, True]


def test_no_rate_is_no_limit() -> None:
    limit = RateLimit(0, 1)
    assert not any(limit.wait_seconds("a") for _ in range(100))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "shop.example"])
def test_without_keys_only_this_machine_may_ask(host: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"--host {host} can be reached by others")):
        ServeSettings(host=host).check()
    ServeSettings(host=host, keys=Path("keys.json")).check()


@pytest.mark.parametrize("name", ["https://shop.example", "shop.example:80", "*", ""])
def test_an_allowed_host_is_checked(name: str) -> None:
    ServeSettings(keys=Path("keys.json"), allowed_hosts=("Shop.example", "192.0.2.1", "[2001:DB8::1]")).check()
    assert ServeSettings(allowed_hosts=("[2001:DB8::1]",)).hosts == {"2001:db8::1"}
    with pytest.raises(ConfigError, match=rf"--allowed-host {re.escape(repr(name))}, expected a name"):
        ServeSettings(allowed_hosts=(name,)).check()


@pytest.mark.parametrize("name", ["shop.example", "192.0.2.1", "[2001:DB8::1]"])
def test_no_name_by_which_others_ask_is_allowed_without_keys(name: str) -> None:
    ServeSettings(allowed_hosts=("localhost", "127.0.0.2", "[::1]")).check()
    with pytest.raises(ConfigError, match=rf"--allowed-host {re.escape(name)} lets others ask, .* give --keys"):
        ServeSettings(allowed_hosts=(name,)).check()


@pytest.mark.parametrize("address", ["shop.example", "10.0.0.1/8", "*", ""])
def test_a_proxy_is_checked(address: str) -> None:
    ServeSettings(forwarded_allow_ips=("127.0.0.1", "10.0.0.0/8", "::1")).check()
    with pytest.raises(ConfigError, match=rf"--forwarded-allow-ips {re.escape(repr(address))}, expected the address"):
        ServeSettings(forwarded_allow_ips=(address,)).check()


def test_an_origin_is_checked() -> None:
    ServeSettings(cors_origins=("https://shop.example",)).check()
    with pytest.raises(ConfigError, match=r"--cors-origin 'shop.example'"):
        ServeSettings(cors_origins=("shop.example",)).check()
