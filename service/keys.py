"""Who may do what: API keys with scopes, kept as hashes, compared in constant time.

A key file has a line for each key, `NAME SCOPE SHA-256`; `que2search key` adds one. A key is 32 random bytes, so a
plain hash hides it: there is nothing to guess.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self, get_args

from service.errors import ForbiddenError, SettingsError, UnauthorizedError

Scope = Literal["read", "write", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)  # each includes those before it
HEADER: Final = b"x-api-key"
HOW_TO_SET: Final = "make a key with `que2search key` and name its file in Q2S_KEYS_FILE"
_KEY_BYTES: Final = 32


class Key(NamedTuple):
    """One line of a key file."""

    name: str
    scope: Scope
    digest: str  # SHA-256 of the key, hexadecimal

    def line(self) -> str:
        return f"{self.name} {self.scope} {self.digest}\n"


def new_key(name: str, scope: Scope) -> tuple[str, Key]:
    """A random key, to be shown once, and what is kept of it."""
    secret = secrets.token_urlsafe(_KEY_BYTES)
    return secret, Key(name, scope, _digest(secret.encode()))


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
        self._keys = [(key.digest.encode(), SCOPES.index(key.scope)) for key in keys]
        self._local = local

    @classmethod
    def of(cls, keys_file: Path | None, *, host: str) -> Self:
        """From the settings. Raises SettingsError as `read_keys`."""
        return cls([] if keys_file is None else read_keys(keys_file), local=is_loopback(host))

    def check(self, headers: Iterable[tuple[bytes, bytes]], scope: Scope) -> None:
        """Return where a request may do what needs `scope`.

        Raises:
            UnauthorizedError: a key is needed and none was sent, or an unknown one.
            ForbiddenError: the key's scope is too small; or no keys are configured, and writing needs one here.
        """
        if not self._keys:
            if scope != "read" and not self._local:
                raise ForbiddenError(f"no keys are configured, and without one nobody may {scope} here: {HOW_TO_SET}")
            return
        given = next((value for name, value in headers if name == HEADER), None)
        if given is None:
            raise UnauthorizedError(f"send a key of scope {scope} in the header X-API-Key")
        digest, granted = _digest(given).encode(), -1
        for known, rank in self._keys:  # all of them, however early one fits: the time tells nothing
            granted = max(granted, rank if hmac.compare_digest(known, digest) else -1)
        if granted < 0:
            raise UnauthorizedError("the key in X-API-Key is not known here")
        if granted < SCOPES.index(scope):
            raise ForbiddenError(f"the key's scope is {SCOPES[granted]}, this needs {scope}")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _key(path: Path, at: int, parts: Sequence[str]) -> Key:
    if len(parts) != 3 or parts[1] not in SCOPES or not _is_digest(parts[2]):
        raise SettingsError(f"{path}, line {at}: not NAME SCOPE SHA-256, with scope {', '.join(SCOPES)}; {HOW_TO_SET}")
    name, scope, digest = parts
    return Key(name, SCOPES[SCOPES.index(scope)], digest.lower())


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(letter in "0123456789abcdefABCDEF" for letter in text)


def _digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()
