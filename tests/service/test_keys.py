"""API keys: files, scopes, who passes and who does not."""

from pathlib import Path

import pytest

from service.errors import ForbiddenError, SettingsError, UnauthorizedError
from service.keys import SCOPES, Guard, Key, Scope, is_loopback, new_key, read_keys
from tests.test_que2search import que2search


def header(secret: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"test"), (b"x-api-key", secret.encode())]


def test_a_key_opens_its_scope_and_those_below() -> None:
    """admin may write and read, write may read, read may only read."""
    for rank, scope in enumerate(SCOPES):
        secret, key = new_key("shop", scope)
        guard = Guard([key], local=False)
        for asked in SCOPES[: rank + 1]:
            guard.check(header(secret), asked)
        for asked in SCOPES[rank + 1 :]:
            with pytest.raises(ForbiddenError, match=f"scope is {scope}, this needs {asked}"):
                guard.check(header(secret), asked)


def test_with_keys_nobody_does_anything_without_one() -> None:
    """No key, an empty one, another one: 401, which says where a key goes."""
    _, key = new_key("shop", "admin")
    other, _ = new_key("other", "admin")
    guard = Guard([key], local=True)

    for headers in ([], header(""), header(other), header(key.digest)):
        with pytest.raises(UnauthorizedError, match="X-API-Key"):
            guard.check(headers, "read")


@pytest.mark.parametrize("scope", ["write", "admin"])
def test_without_keys_only_this_machine_writes(scope: Scope) -> None:
    """403 says how to make a key; searching is open to all."""
    Guard([], local=True).check([], scope)
    far = Guard([], local=False)
    far.check([], "read")
    with pytest.raises(ForbiddenError, match=r"que2search key.*Q2S_KEYS_FILE"):
        far.check([], scope)


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"forwarded", b"x-real-ip", b"x-forwarded-host", b"host"])
def test_no_header_makes_a_client_one_of_this_machine(name: bytes) -> None:
    """What counts is where the server listens, which no client can say."""
    far = Guard([], local=False)

    for value in (b"127.0.0.1", b"localhost", b"for=127.0.0.1", b"::1"):
        with pytest.raises(ForbiddenError):
            far.check([(name, value)], "write")


def test_a_page_of_another_site_does_not_write_through_the_browser_of_this_machine() -> None:
    """A browser sends the page's origin along; our own /docs on this machine may write, and whoever sends none."""
    guard = Guard([], local=True)

    for origin in (b"http://127.0.0.1:8000", b"http://localhost", b"http://[::1]:8000"):
        guard.check([(b"origin", origin)], "write")
    for origin in (b"https://example.org", b"null", b"http://127.0.0.1.example.org", b"http://[", b"\xff"):
        guard.check([(b"origin", origin)], "read")
        with pytest.raises(ForbiddenError, match="another site"):
            guard.check([(b"origin", origin)], "write")


def test_the_key_of_a_request_is_told(tmp_path: Path) -> None:
    """With its rate, where it has one of its own."""
    (slow, slow_key), (free, free_key) = new_key("feed", "write", rate=50), new_key("shop", "write")
    path = tmp_path / "keys"
    path.write_text(slow_key.line() + free_key.line())
    guard = Guard(read_keys(path), local=False)

    assert (slow_key, 50) == (guard.check(header(slow), "write"), slow_key.rate)
    assert (free_key, None) == (guard.check(header(free), "write"), free_key.rate)
    assert Guard([], local=True).check([], "write") is None


def test_several_keys_live_side_by_side(tmp_path: Path) -> None:
    """So that one can be replaced without a gap; comments and empty lines are passed over."""
    made = [new_key(name, scope) for name, scope in (("old", "write"), ("new", "write"), ("shop", "read"))]
    path = tmp_path / "keys"
    path.write_text("# of the shop\n\n" + "".join(key.line() for _, key in made))
    guard = Guard(read_keys(path), local=False)

    for secret, key in made:
        guard.check(header(secret), key.scope)


def test_a_file_holds_no_secret() -> None:
    """Only the hash of 32 random bytes."""
    secret, key = new_key("shop", "write")

    assert secret not in key.line()
    assert 43 == len(secret)
    assert Key("shop", "write", key.digest) == key


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no key"),
        ("shop write", "line 1"),
        ("# ok\nshop root " + 64 * "a", "line 2"),
        ("shop write " + 63 * "a" + "g", "line 1"),
        ("shop write " + 64 * "a" + " 0", "'0' is no rate"),
        ("shop write " + 64 * "a" + " inf", "'inf' is no rate"),
        ("shop write " + 64 * "a" + " fast", "'fast' is no rate"),
        ("shop write " + 64 * "a" + " 5 5", "line 1"),
    ],
)
def test_a_wrong_key_file_is_refused(tmp_path: Path, text: str, why: str) -> None:
    """Before the server starts; it names the line."""
    path = tmp_path / "keys"
    path.write_text(text)

    with pytest.raises(SettingsError, match=why):
        read_keys(path)


def test_loopback_addresses() -> None:
    """Of both families, and by name; the address of all interfaces is none."""
    assert [True, True, True, True] == [is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost")]
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"))  # noqa: S104


def test_the_command_adds_keys_to_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    """Each shown once; what is kept of it opens its scope, at its own rate where it was given one."""
    shop = que2search("key", "--name", "shop", "--keys", tmp_path / "keys").stdout.strip()
    feed = que2search("key", "--name", "feed", "--rate", "50", "--keys", tmp_path / "keys").stdout.strip()
    guard = Guard(read_keys(tmp_path / "keys"), local=False)
    found = [guard.check(header(secret), "write") for secret in (shop, feed)]

    assert [("shop", "write", None), ("feed", "write", 50)] == [(key.name, key.scope, key.rate) for key in found if key]
    assert 0o600 == (tmp_path / "keys").stat().st_mode & 0o777
    assert 2 == que2search("key", "--name", "fast", "--rate", "0", "--keys", tmp_path / "keys").returncode
