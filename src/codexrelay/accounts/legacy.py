"""Codex CLI's own `auth.json`, used while the relay has no accounts of its own.

The file belongs to another program. It is read again before every refresh, a newer pair in it
wins, what the relay does not understand stays where it was, and beside tokens and `last_refresh`
nothing is ever written into it: marks and cool-downs of this account live in memory. Next to it the
relay uses Codex CLI's lock files and, from a refresh to its answer, one small mark (`sent_mark`).

Everything here blocks: callers run it in a thread.
"""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.accounts.account import Credentials, Loaded, make_account
from codexrelay.accounts.files import (
    BrokenFileError,
    Locks,
    broken,
    file_size_bytes,
    fingerprint_of,
    read_bytes,
    real_path,
    replace_json,
)
from codexrelay.accounts.layouts import is_personal, layout_of, why_no_tokens
from codexrelay.accounts.tokens import sendable
from codexrelay.protocol.raw import get_text, parse_object

if TYPE_CHECKING:
    from codexrelay.accounts.account import Account
    from codexrelay.accounts.files import Fingerprint
    from codexrelay.protocol.raw import JsonObject

#: The account's id. A managed account may have it too: the two kinds are never in use together.
LEGACY_ID: Final = "codex-cli"
_FILE: Final = "auth.json"
_SIGN_IN: Final = "sign in with ChatGPT: run `codex login`"


@attrs.define(eq=False)
class LegacyStore:
    """The first of some folders that holds an `auth.json`."""

    #: In the order of preference; the file may appear in any of them at any time. None at all on a
    #: machine without a home folder.
    folders: tuple[Path, ...]
    #: The refresh token that is dead, and why. Kept here because the file is not ours to mark.
    _dead: tuple[str, str] | None = attrs.field(default=None, init=False, repr=False)

    def load(self) -> Loaded:
        """Read the account. A file that cannot be used is a problem and no account."""
        try:
            account = self.read(LEGACY_ID)
        except BrokenFileError as error:
            return Loaded(problems=(error.problem,), found=True)
        return Loaded(accounts=(account,), found=True) if account is not None else Loaded()

    def read(self, account_id: str) -> Account | None:  # noqa: ARG002 - there is one account only
        """Read the account, None if there is no file.

        Raises:
            BrokenFileError: the file cannot be used.
        """
        found = self._read()
        return None if found is None else self._account(*found)

    def fingerprint(self) -> Fingerprint:
        """Return a value that changes whenever the file does. Reads no file."""
        return fingerprint_of(folder / _FILE for folder in self.folders)

    def save_credentials(
        self,
        account_id: str,  # noqa: ARG002 - there is one account only
        credentials: Credentials,
        *,
        expected_refresh_token: str,
        now_unix_s: float,
    ) -> Account:
        """Store new credentials, if the refresh token they came from is still the stored one.

        Only under the flight lock: this takes no lock of its own. Returns the account as it is
        stored now; if Codex CLI was faster, that is its pair and nothing was written.

        Raises:
            OSError: nothing was written.
            BrokenFileError: the file has become unusable; it is left alone.
        """
        found = self._read()
        if found is None:
            raise self._gone()
        path, raw = found
        stored = self._account(path, raw)
        if stored.credentials.refresh_token != expected_refresh_token:
            return stored
        layout = layout_of(raw)
        tokens = layout.tokens(raw)
        tokens[layout.access] = credentials.access_token
        tokens[layout.refresh] = credentials.refresh_token
        if credentials.id_token is not None:
            tokens[layout.identity] = credentials.id_token
        now = datetime.datetime.fromtimestamp(now_unix_s, tz=datetime.UTC)
        raw[layout.refreshed] = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        account = self._account(path, raw)  # first: what would be broken is not written
        replace_json(path, raw)
        return account

    def mark_needs_reauth(self, account_id: str, reason: str, *, refresh_token: str) -> Account:
        """Remember that `refresh_token` is dead, for as long as the file holds it.

        Returns the account as it is stored now: whoever lost a race finds the winner's tokens here.

        Raises:
            OSError: the file is gone.
            BrokenFileError: the file has become unusable.
        """
        self._dead = (refresh_token, reason)
        account = self.read(account_id)
        if account is None:
            raise self._gone()
        return account

    def flight_lock(self, account_id: str) -> Locks:  # noqa: ARG002 - there is one account only
        """Return the lock that whoever refreshes the account holds, Codex CLI included."""
        path = self._path()
        if path is None:
            return Locks(())
        # `auth.lock` and `auth.json.lock` (measured, Codex CLI 0.169). Beside a link as well as
        # beside its file: Codex CLI may lock here, and another folder may link there too.
        real = real_path(path)
        beside = (
            each.with_name(name)
            for each in (real, path)
            for name in (f"{each.stem}.lock", f"{each.name}.lock")
        )
        return Locks(tuple(dict.fromkeys(beside)))

    def size_bytes(self, account_id: str) -> int:  # noqa: ARG002 - there is one account only
        """Return the size of the file, 0 if there is none."""
        path = self._path()
        return 0 if path is None else file_size_bytes(path)

    def _path(self) -> Path | None:
        """Return the file that counts: the first there is, else the first that may come to be."""
        paths = [folder / _FILE for folder in self.folders]
        # `Path.exists` raises where a folder may not be searched (Python 3.11).
        return next((path for path in paths if os.path.exists(path)), next(iter(paths), None))

    def _read(self) -> tuple[Path, JsonObject] | None:
        """Return the file that counts and what is in it, None if there is no file."""
        path = self._path()
        raw = None if path is None else _parsed(path)
        return None if path is None or raw is None else (path, raw)

    def _gone(self) -> FileNotFoundError:
        return FileNotFoundError(2, "the file is gone", str(self._path()))

    def _account(self, path: Path, raw: JsonObject) -> Account:
        layout = layout_of(raw)

        def token(name: str) -> str | None:
            return sendable(path, layout.field(name), layout.token(raw, name))

        if why := why_no_tokens(raw):
            raise broken(path, "tokens", f"{why}; {_SIGN_IN}")
        access_token = token(layout.access) or ""  # there is one
        refresh_token = token(layout.refresh)
        if is_personal(access_token):
            refresh_token = None  # of an earlier sign-in, if there is one
        ids = (sendable(path, field, text) for field, text in layout.workspace_ids(raw))
        return make_account(
            LEGACY_ID,
            Credentials(
                access_token=access_token,
                refresh_token=refresh_token,
                id_token=token(layout.identity),
            ),
            origin="legacy",
            workspace_id=next(ids, None),
            email=get_text(raw, "email"),
            needs_reauth=self._why_dead(refresh_token),
        )

    def _why_dead(self, refresh_token: str | None) -> str | None:
        dead = self._dead
        return dead[1] if dead is not None and dead[0] == refresh_token else None


def _parsed(path: Path) -> JsonObject | None:
    data = read_bytes(path)
    if data is None:
        return None
    try:
        return parse_object(data)
    except ValueError as error:
        # Not chained: the parser's error carries the whole document, tokens and all.
        raise broken(path, "file", f"is not a JSON object ({error}); {_SIGN_IN}") from None
