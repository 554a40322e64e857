"""API keys: who may ask, and how often."""

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request

from langevin.server.errors import Refused

CLIENT = "langevin.client"  # of the scope of a request: the name of its key
ROLES = ("reviewer", "trainer")


@dataclass(eq=False, kw_only=True)
class Bucket:
    """Tokens of a key: one a request, refilled over time."""

    rate: float
    burst: float
    tokens: float
    at: float

    def take(self, now: float) -> float:
        """Take a token; returns 0, or the seconds until there is one."""
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return 0.0
        return (1 - self.tokens) / self.rate


@dataclass(eq=False, kw_only=True)
class Keys:
    """Keys that are accepted; none accepts everybody.

    Args:
        digests: SHA-256 of each key, by its name.
        roles: what a key may beyond asking, by its name: "reviewer" look at what is held, and decide; "trainer" train, stop
            and evaluate runs.
        rate: requests a second that a key may make on average, and `burst` at once.
    """

    digests: dict[str, bytes] = field(default_factory=dict)
    roles: dict[str, frozenset[str]] = field(default_factory=dict)
    rate: float = 10.0
    burst: float = 50.0
    clock: Callable[[], float] = time.monotonic
    _buckets: dict[str, Bucket] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, *, rate: float = 10.0, burst: float = 50.0) -> "Keys":
        """The keys of a file: one a line, "NAME KEY", and behind it its roles, if any; lines with # are comments.

        Raises:
            ValueError: a line that is neither, a short key, or no key."""
        digests, roles = dict[str, bytes](), dict[str, frozenset[str]]()
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError as error:
            raise ValueError(
                f"there is no file {path}: write a name and a key of 16 characters or more on a line"
            ) from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not a file of keys") from error
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if len(words) < 2 or len(words[0]) > 64 or len(words[1]) < 16:
                raise ValueError(f"{path}, line {number}: give a name and a key of 16 characters or more")
            if unknown := set(words[2:]) - set(ROLES):
                raise ValueError(
                    f"{path}, line {number}: there is no role '{min(unknown)}'; there are {', '.join(ROLES)}"
                )
            if (
                twin := next((name for name, known in digests.items() if known == _digest(words[1])), None)
            ) is not None:
                raise ValueError(f"{path}, line {number}: {words[0]} has the key of {twin}: give each its own")
            digests[words[0]], roles[words[0]] = _digest(words[1]), frozenset(words[2:])
        if not digests:
            raise ValueError(f"{path} holds no key: give a name and a key on a line")
        return cls(digests=digests, roles=roles, rate=rate, burst=burst)

    def require(self, name: str, role: str) -> None:
        """Check that a key has a role. Raises `Refused` if there are keys and this one has not."""
        if self.digests and role not in self.roles.get(name, ()):
            raise Refused(f"only keys with the role of a {role} may do this", status=403, code=f"not_a_{role}")

    def admit(self, authorization: str | None) -> str:
        """The name of the key in an Authorization header; "" if no keys are needed.

        Raises:
            Refused: a wrong key, or too many requests."""
        name = ""
        if self.digests:
            scheme, _, key = (authorization or "").partition(" ")
            given = _digest(key.strip())
            matches = [name for name, digest in self.digests.items() if hmac.compare_digest(digest, given)]
            if scheme.lower() != "bearer" or not matches:
                raise Refused(
                    "give a valid API key as 'Authorization: Bearer KEY'", status=401, code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )  # fmt: skip
            name = matches[0]
        now = self.clock()
        bucket = self._buckets.setdefault(name, Bucket(rate=self.rate, burst=self.burst, tokens=self.burst, at=now))
        wait = bucket.take(now) if self.digests else 0.0
        if wait:
            headers = {"Retry-After": str(max(1, round(wait)))}
            raise Refused("too many requests of this key", status=429, code="rate_limit_exceeded", headers=headers)
        return name


@dataclass(frozen=True, kw_only=True)
class Client:
    """Who sends a request.

    Args:
        name: of its key; "" without keys.
    """

    name: str
    keys: Keys

    def require(self, role: str) -> None:
        """Check that it has a role. Raises `Refused` if not."""
        self.keys.require(self.name, role)


def client_of(request: Request) -> Client:
    """Who has sent a request, which the gate has let through."""
    return Client(name=request.scope.get(CLIENT, ""), keys=request.app.state.keys)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
