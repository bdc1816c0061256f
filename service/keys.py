"""Who may do what: API keys with scopes, kept as hashes, compared in constant time.

A key file has a line for each key, `NAME SCOPE SHA-256 [RATE]`; `que2search key` adds one. A key is 32 random bytes, so
a plain hash hides it: there is nothing to guess.
"""

import hashlib
import hmac
import math
import secrets
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self, get_args
from urllib.parse import urlsplit

from service.errors import ForbiddenError, SettingsError, UnauthorizedError

Scope = Literal["read", "write", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)  # each includes those before it
HEADER: Final = b"x-api-key"
ORIGIN: Final = b"origin"  # of the page whose script sends the request; browsers alone send it
HOW_TO_SET: Final = "make a key with `que2search key` and name its file in Q2S_KEYS_FILE"
_KEY_BYTES: Final = 32


class Key(NamedTuple):
    """One line of a key file."""

    name: str
    scope: Scope
    digest: str  # SHA-256 of the key, hexadecimal
    rate: float | None = None  # writes a second; None: the server's Q2S_WRITE_RATE

    def line(self) -> str:
        rate = "" if self.rate is None else f" {self.rate:g}"
        return f"{self.name} {self.scope} {self.digest}{rate}\n"


def new_key(name: str, scope: Scope, *, rate: float | None = None) -> tuple[str, Key]:
    """A random key, to be shown once, and what is kept of it."""
    secret = secrets.token_urlsafe(_KEY_BYTES)
    return secret, Key(name, scope, _digest(secret.encode()), rate)


def read_keys(path: Path) -> list[Key]:
    """The keys of a file. Raises SettingsError, naming the line, where it is none."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"cannot read the keys in {path}: {exc}") from exc
    filled = [(at, line.split()) for at, line in enumerate(lines, start=1) if line.strip() and line[0] != "#"]
    keys = [_key(path, at, parts) for at, parts in filled]
    if not keys:
        raise SettingsError(f"{path} holds no key; {HOW_TO_SET}")
    return keys


class Guard:
    """Lets requests pass by their key.

    Args:
        keys: who may come; none: everybody may search, and whoever is on this machine may write.
        local: the server is bound to a loopback address, so that nobody else can reach it.
    """

    def __init__(self, keys: Sequence[Key], *, local: bool) -> None:
        self._keys = [(key.digest.encode(), key) for key in keys]
        self._local = local

    @classmethod
    def of(cls, keys_file: Path | None, *, host: str) -> Self:
        """From the settings. Raises SettingsError as `read_keys`."""
        return cls([] if keys_file is None else read_keys(keys_file), local=is_loopback(host))

    def check(self, headers: Iterable[tuple[bytes, bytes]], scope: Scope) -> Key | None:
        """The key of a request that may do what needs `scope`; None: no keys are configured, and it may.

        Raises:
            UnauthorizedError: a key is needed and none was sent, or an unknown one.
            ForbiddenError: the key's scope is too small; or no keys are configured, and writing needs one here.
        """
        if not self._keys:
            if scope != "read":
                self._check_local(headers, scope)
            return None
        given = _header(headers, HEADER)
        if given is None:
            raise UnauthorizedError(f"send a key of scope {scope} in the header X-API-Key")
        digest, found = _digest(given).encode(), None
        for known, key in self._keys:  # all of them, however early one fits: the time tells nothing
            found = key if hmac.compare_digest(known, digest) else found
        if found is None:
            raise UnauthorizedError("the key in X-API-Key is not known here")
        if SCOPES.index(found.scope) < SCOPES.index(scope):
            raise ForbiddenError(f"the key's scope is {found.scope}, this needs {scope}")
        return found

    def _check_local(self, headers: Iterable[tuple[bytes, bytes]], scope: Scope) -> None:
        """Without keys only this machine may write, by its own will: a page of elsewhere in its browser may not."""
        if not self._local:
            raise ForbiddenError(f"no keys are configured, and without one nobody may {scope} here: {HOW_TO_SET}")
        origin = _header(headers, ORIGIN)
        if origin is not None and not _is_of_this_machine(origin):
            raise ForbiddenError(f"no keys are configured, and a page of another site may not {scope}: {HOW_TO_SET}")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _header(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    return next((value for name, value in headers if name == wanted), None)


def _is_of_this_machine(origin: bytes) -> bool:
    """Whether a page came from a server of this machine, such as our own /docs."""
    try:
        return is_loopback(urlsplit(origin.decode("latin-1")).hostname or "")
    except ValueError:
        return False


def _key(path: Path, at: int, parts: Sequence[str]) -> Key:
    if len(parts) not in {3, 4} or parts[1] not in SCOPES or not _is_digest(parts[2]):
        raise SettingsError(
            f"{path}, line {at}: not NAME SCOPE SHA-256 [RATE], with scope {', '.join(SCOPES)}; {HOW_TO_SET}"
        )
    name, scope, digest, *rate = parts
    return Key(name, SCOPES[SCOPES.index(scope)], digest.lower(), _rate(path, at, rate[0]) if rate else None)


def _rate(path: Path, at: int, text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise SettingsError(f"{path}, line {at}: {text!r} is no rate; writes a second, a number above 0")
    return rate


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(letter in "0123456789abcdefABCDEF" for letter in text)


def _digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()
