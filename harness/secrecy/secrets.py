"""The secrets that are known by their exact value, and where they are learnt from."""

from __future__ import annotations

import base64
import binascii
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.accounts.layouts import LAYOUTS
from codexrelay.protocol.raw import is_object, parse
from harness.secrecy.stand_ins import is_stand_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from codexrelay.protocol.raw import Json

#: Tokens and ids below this many characters are not looked for: they are found everywhere.
SHORTEST: Final = 8
#: A name of a person or a machine from this length on is looked for in all texts, as a word.
_SHORTEST_WORD: Final = 6
_SHORTEST_NAME: Final = 3
#: Kinds whose letters may be upper or lower case.
_FOLDED: Final = frozenset({"e-mail", "host", "user", "name"})
#: Kinds that are looked for as a word: not inside of other words.
_WORDS: Final = frozenset({"host", "user", "name"})
#: What accounts and machines are called that are nobody's.
COMMON: Final = frozenset(
    {
        *("admin", "administrator", "agent", "app", "appuser", "build", "builder", "circleci"),
        *("coder", "codespace", "container", "debian", "default", "dev", "developer"),
        *("docker", "ec2-user", "example", "fedora", "foo", "git", "gitpod", "guest"),
        *("home", "jenkins", "jovyan", "linuxbrew", "local", "localhost"),
        *("localhost.localdomain", "me", "name", "node", "nobody", "nonroot", "oai", "owner"),
        *(
            "project",
            "public",
            "relay",
            "root",
            "runner",
            "runneradmin",
            "sandbox",
            "shared",
            "somebody",
        ),
        *("someone", "super", "system", "test", "ubuntu", "user", "username", "users"),
        *("vagrant", "vscode", "web", "work", "worker", "workspace", "www-data", "you"),
        *("your-name", "yourname"),
    }
)
_TOKENS: Final = frozenset(
    name for layout in LAYOUTS for name in (layout.access, layout.refresh, layout.identity)
)
_KEYS: Final = frozenset({"OPENAI_API_KEY", "api_key", "client_secret", "private_key"})
_USER_IDS: Final = frozenset({"user_id", "chatgpt_user_id", "sub", "safety_identifier"})
_ACCOUNT_IDS: Final = frozenset(
    {
        "account_id",
        "accountId",
        "chatgpt_account_id",
        "workspace_id",
        "organization_id",
        "org_id",
        "tenant_id",
        "poid",
    }
)
_NAMES: Final = frozenset({"name", "given_name", "family_name", "nickname", "preferred_username"})
_IDS: Final = frozenset({"jti", "sid", "session_id", "phone_number"})
_JWT: Final = re.compile(rb"eyJ[\w-]{6,}\.[\w-]{6,}\.[\w-]*")
_GIT_EMAIL: Final = re.compile(r"^\s*email\s*=\s*(\S+@\S+)\s*$", re.MULTILINE)


@attrs.define(eq=False)
class Secrets:
    """Exact values and their kinds: `token`, `key`, `cookie`, `account-id`, `e-mail`, `user`, ….

    Tokens, keys and ids of fewer than 8 characters are not kept: to look for them everywhere would
    destroy what is no secret. E-mail addresses and names are found in upper and lower case. Names
    of people and machines are found as whole words, from 6 letters on; those of 3 to 5 letters only
    in a path (`/joe/`) or before an `@`, as most of them are words too. What everybody is called
    (`root`, `user`, `runner`) is no name, and a stand-in is no secret.
    """

    #: Value -> kind, as it is written.
    exact: dict[bytes, str] = attrs.field(factory=dict, init=False, repr=False)
    #: Value in lower case -> kind.
    folded: dict[bytes, str] = attrs.field(factory=dict, init=False, repr=False)
    #: Name in lower case -> kind and how it is found in what is in lower case.
    words: dict[bytes, tuple[str, re.Pattern[bytes]]] = attrs.field(
        factory=dict, init=False, repr=False
    )

    @classmethod
    def of_store(cls, folder: Path) -> Secrets:
        """Return the secrets in the account files of `folder`, and in the tokens' own claims.

        `folder` may be a store of the relay's, the home of Codex CLI, which holds an `auth.json`,
        or one such file. What cannot be read, or is not there, holds no secrets.
        """
        secrets = cls()
        secrets.add_store(folder)
        return secrets

    @classmethod
    def of_person(cls) -> Secrets:
        """Return what tells who and where this is: login name, home folder, host name, e-mail."""
        secrets = cls()
        secrets.add_person(Path.home(), os.environ, host=socket.gethostname())
        return secrets

    def add(self, value: str, kind: str) -> None:
        """Look for `value` from now on; nothing happens if it is too short or known."""
        value = value.strip()
        if is_stand_in(value):
            return
        if kind in _WORDS:
            self._add_word(value.lower(), kind)
        elif kind in _FOLDED:
            if len(value) >= SHORTEST - 2 and not _is_nobodys(value):
                self.folded.setdefault(value.lower().encode(), kind)
        elif len(value) >= SHORTEST:
            self.exact.setdefault(value.encode(), kind)

    def update(self, other: Secrets) -> None:
        """Look for those of `other` as well."""
        for mine, theirs in ((self.exact, other.exact), (self.folded, other.folded)):
            for value, kind in theirs.items():
                mine.setdefault(value, kind)
        self.words.update(other.words)

    def add_store(self, folder: Path) -> None:
        """Add what `of_store` tells."""
        paths = [folder] if folder.is_file() else sorted(folder.glob("*.json"))
        for path in paths:
            try:
                data = path.read_bytes()
            except OSError:
                continue
            try:
                self.add_document(parse(data))
            except ValueError:
                # Broken, but its tokens may still be good.
                for found in _JWT.finditer(data):
                    self.add_token(found[0].decode())

    def add_person(self, home: Path, environment: Mapping[str, str], *, host: str) -> None:
        """Add what `of_person` tells, for somebody else's home, environment and host name."""
        names = {environment.get(name, "") for name in ("USER", "LOGNAME", "USERNAME")}
        for name in sorted(names | {home.name}):
            self.add(name, "user")
        folder = str(home)
        if len(folder) >= SHORTEST and home.name.lower() not in COMMON:
            self.add(folder, "home")
        for name in (host, host.partition(".")[0]):
            self.add(name, "host")
        try:
            told = (home / ".gitconfig").read_text("utf-8", "replace")
        except OSError:
            return
        for found in _GIT_EMAIL.finditer(told):
            self.add(found[1], "e-mail")

    def add_token(self, token: str, kind: str = "token") -> None:
        """Add a token and, if it is a JWT, what it says of its owner."""
        self.add(token, kind)
        parts = token.split(".")
        if len(parts) < 3:
            return
        try:
            claims = parse(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        except (ValueError, binascii.Error):
            return
        self.add_document(claims, is_claims=True)

    def add_document(self, document: Json, *, is_claims: bool = False) -> None:
        """Add what the fields of an account's file, an answer of the issuer or claims hold."""
        for path, text in _texts(document):
            key = path[-1] if path else ""
            if key in _TOKENS:
                self.add_token(text)
            elif key in _KEYS:
                self.add(text, "key")
            elif key == "email":
                self.add(text, "e-mail")
            elif key in _USER_IDS:
                # `auth0|user-…`: the part that stands by itself elsewhere.
                self.add(text.rpartition("|")[2], "user-id")
            elif key in _ACCOUNT_IDS and (path != ("account_id",) or _is_global(text)):
                self.add(text, "account-id")
            elif is_claims and key in _NAMES:
                self.add(text, "name")
            elif is_claims and (key in _IDS or path[-2:] == ("organizations", "id")):
                self.add(text, "account-id")

    def _add_word(self, name: str, kind: str) -> None:
        if len(name) < _SHORTEST_NAME or name in COMMON or name.isdigit():
            return
        value = name.encode()
        word = re.escape(value)
        if len(name) >= _SHORTEST_WORD:
            pattern = rb"(?<![a-z0-9_])" + word + rb"(?![a-z0-9_])"
        else:
            pattern = rb"(?<=[/\\~])" + word + rb"(?=[/\\])|(?<![a-z0-9._%+-])" + word + rb"(?=@)"
        self.words.setdefault(value, (kind, re.compile(pattern)))


def _is_global(account_id: str) -> bool:
    """Tell a workspace's id from the name that the owner has given to the account's file."""
    return re.fullmatch(r"[0-9a-f-]{36}|(?:org|acct|ws|user)[-_].+", account_id) is not None


def _is_nobodys(address: str) -> bool:
    return address.partition("@")[0].lower() in ("git", "noreply", "root")


def _texts(value: Json, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, path)
    elif is_object(value):
        for key, each in value.items():
            yield from _texts(each, (*path, key))
