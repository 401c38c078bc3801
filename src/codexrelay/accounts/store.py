"""The relay's own accounts: one JSON file each, in one folder.

Beside `<id>.json`, which holds the tokens, stand `<id>.state.json` for what turns learn (so that a
note about quota can never lose a rotated token), `<id>.lock`, held while a file is rewritten, and
`<id>.refresh.lock`, held while a token is refreshed. Two locks, because a refresh may take half a
minute and a sign-in that stores new tokens must not wait for it.

Everything here blocks: callers run it in a thread.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.accounts.account import Credentials, Loaded, make_account
from codexrelay.accounts.files import (
    BrokenFileError,
    Locks,
    broken,
    fingerprint_of,
    new_lock,
    read_bytes,
    replace_json,
)
from codexrelay.accounts.tokens import sendable
from codexrelay.errors import Problem
from codexrelay.protocol.raw import JsonObject, get_number, kind_of, parse_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.accounts.account import Account
    from codexrelay.accounts.files import Fingerprint

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_ENDING: Final = ".json"
_STATE_ENDING: Final = ".state.json"
#: Longest wait for another process to finish its rewrite of one file.
_WRITE_LOCK_S: Final = 10.0
_UNNAMED_REASON: Final = "marked in its file"


@attrs.frozen
class AccountStore:
    """The folder of account files."""

    folder: Path

    def load(self) -> Loaded:
        """Read every account file. One that is broken is a problem and no account."""
        try:
            paths = self._account_paths()
        except OSError as error:
            # Counts as "there are files": what cannot be seen must not be replaced by others.
            told = Problem(where=str(self.folder), what=f"cannot be listed ({error.strerror})")
            return Loaded(problems=(told,), found=True)
        accounts: list[Account] = []
        problems: list[Problem] = []
        for path in paths:
            try:
                account = self._read(path, problems)
            except BrokenFileError as error:
                problems.append(error.problem)
            else:
                accounts += [account] if account is not None else []
        return Loaded(accounts=tuple(accounts), problems=tuple(problems), found=bool(paths))

    def read(self, account_id: str) -> Account | None:
        """Read one account, None if it has no file.

        Raises:
            BrokenFileError: the file cannot be used.
        """
        return self._read(self._path(account_id), [])

    def fingerprint(self) -> Fingerprint:
        """Return a value that changes whenever an account or state file does. Reads no file."""
        try:
            with os.scandir(self.folder) as entries:
                names = sorted(entry.name for entry in entries if _is_visible_json(entry.name))
        except OSError:
            return ()
        return fingerprint_of(self.folder / name for name in names)

    def save_credentials(
        self,
        account_id: str,
        credentials: Credentials,
        *,
        expected_refresh_token: str,
        now_unix_s: float,
    ) -> Account:
        """Store new credentials, if the refresh token they came from is still the stored one.

        Returns the account as it is stored now; if another process was faster, that is its pair and
        nothing was written. All other keys of the file survive.

        Raises:
            OSError: nothing was written.
            BrokenFileError: the file has become unusable; it is left alone.
        """
        expires = credentials.expires_at_unix_s
        changes: JsonObject = {
            "access_token": credentials.access_token,
            "refresh_token": credentials.refresh_token,
            "expiry_date": None if expires is None else round(expires * 1000),
            "updated_at": _iso(now_unix_s),
            "needs_reauth": False,
            "consecutive_auth_failures": 0,
        }
        if credentials.id_token is not None:
            changes["id_token"] = credentials.id_token
        return self._change(account_id, changes, expected_refresh_token=expected_refresh_token)

    def mark_needs_reauth(self, account_id: str, reason: str, *, refresh_token: str) -> Account:
        """Note that `refresh_token` is dead, if it is still the stored one.

        Returns the account as it is stored now: whoever lost a race finds the winner's tokens here.

        Raises:
            OSError: nothing was written.
            BrokenFileError: the file has become unusable; it is left alone.
        """
        changes: JsonObject = {"needs_reauth": True, "needs_reauth_reason": reason}
        return self._change(account_id, changes, expected_refresh_token=refresh_token)

    def save_limit(self, account_id: str, until_unix_s: float | None, *, now_unix_s: float) -> None:
        """Note when the account's cool-down ends. Does not touch the file that holds the tokens.

        Raises:
            OSError: nothing was written.
            BrokenFileError: the state file is unusable; it is left alone.
        """
        path = self.folder / f"{account_id}{_STATE_ENDING}"
        with self._write_lock(account_id):
            if not self._path(account_id).exists():
                return  # removed meanwhile: a state without an account would only confuse
            state = _parse(path, read_bytes(path) or b"{}")
            state["rate_limited_until"] = (
                None if until_unix_s is None else round(until_unix_s * 1000)
            )
            state["updated_at"] = _iso(now_unix_s)
            replace_json(path, state)

    def flight_lock(self, account_id: str) -> Locks:
        """Return the lock that whoever refreshes the account holds, in whichever process."""
        return Locks((self.folder / f"{account_id}.refresh.lock",))

    def _path(self, account_id: str) -> Path:
        return self.folder / f"{account_id}{_ENDING}"

    def _account_paths(self) -> list[Path]:
        try:
            with os.scandir(self.folder) as entries:
                names = [entry.name for entry in entries]
        except FileNotFoundError:
            return []
        return [
            self.folder / name
            for name in sorted(names)
            if _is_visible_json(name) and not name.endswith(_STATE_ENDING)
        ]

    def _read(self, path: Path, problems: list[Problem]) -> Account | None:
        data = read_bytes(path)
        if data is None:
            return None
        return self._account(path, _parse(path, data), problems)

    def _account(self, path: Path, raw: JsonObject, problems: list[Problem]) -> Account:
        record = _Record(path, raw)
        account_id = path.name.removesuffix(_ENDING)
        record.check_id(account_id)
        needs_reauth = record.flag("needs_reauth")
        return make_account(
            account_id,
            Credentials(
                access_token=record.required("access_token"),
                refresh_token=record.sendable("refresh_token"),
                id_token=record.sendable("id_token"),
                expires_at_unix_s=record.instant("expiry_date"),
            ),
            origin="managed",
            workspace_id=record.sendable("chatgpt_account_id"),
            email=record.text("email"),
            needs_reauth=(
                record.text("needs_reauth_reason") or _UNNAMED_REASON if needs_reauth else None
            ),
            rate_limited_until_unix_s=self._limit(account_id, record, problems),
        )

    def _limit(self, account_id: str, record: _Record, problems: list[Problem]) -> float | None:
        """Return the end of the cool-down: from the state file, else where older stores keep it."""
        path = self.folder / f"{account_id}{_STATE_ENDING}"
        try:
            data = read_bytes(path)
            state = _Record(path, _parse(path, data)) if data is not None else record
            chosen = state if "rate_limited_until" in state.raw else record
            return chosen.instant("rate_limited_until")
        except BrokenFileError as error:
            problems.append(error.problem)  # the account is usable all the same
            return None

    def _change(
        self, account_id: str, changes: JsonObject, *, expected_refresh_token: str
    ) -> Account:
        path = self._path(account_id)
        with self._write_lock(account_id):
            data = read_bytes(path)
            if data is None:
                raise FileNotFoundError(2, "the account's file is gone", str(path))
            raw = _parse(path, data)
            stored = self._account(path, raw, [])
            if stored.credentials.refresh_token != expected_refresh_token:
                return stored
            replace_json(path, raw | changes)
            return self._account(path, raw | changes, [])

    @contextlib.contextmanager
    def _write_lock(self, account_id: str) -> Iterator[None]:
        if self.folder.is_dir():
            with contextlib.suppress(PermissionError):  # somebody else's folder, say a mounted one
                self.folder.chmod(0o700)
        with new_lock(self.folder / f"{account_id}.lock").acquire(timeout=_WRITE_LOCK_S):
            yield


@attrs.frozen
class _Record:
    """A file's object, read field by field; a field of the wrong type makes the file broken."""

    path: Path
    raw: JsonObject

    def check_id(self, account_id: str) -> None:
        """The name of the file is the account's id; the id inside must agree."""
        if _ID.fullmatch(account_id) is None:
            raise broken(
                self.path,
                "file name",
                "an account id is 1 to 64 letters, digits, - and _, and begins with no - or _",
            )
        inside = self.text("account_id")
        if inside is not None and inside != account_id:
            raise broken(self.path, "account_id", "is not the name of the file")

    def text(self, field: str) -> str | None:
        """Return the text, None for null, nothing or an empty one."""
        value = self.raw.get(field)
        if value is None or isinstance(value, str):
            return value or None
        raise broken(self.path, field, f"a string is needed, not {kind_of(value)}")

    def sendable(self, field: str) -> str | None:
        """Return the token or id, None for null, nothing or an empty one."""
        return sendable(self.path, field, self.text(field))

    def required(self, field: str) -> str:
        """Return the token that must be there."""
        if (value := self.sendable(field)) is None:
            raise broken(self.path, field, "is missing")
        return value

    def flag(self, field: str) -> bool:
        """Return the boolean, False for null or nothing."""
        value = self.raw.get(field)
        if value is None or isinstance(value, bool):
            return value or False
        raise broken(self.path, field, f"a boolean is needed, not {kind_of(value)}")

    def instant(self, field: str) -> float | None:
        """Return an instant written as milliseconds since 1970, in Unix seconds."""
        value = self.raw.get(field)
        if value is None:
            return None
        at_ms = None if isinstance(value, str) else get_number(self.raw, field)
        if at_ms is None or not math.isfinite(at_ms) or at_ms <= 0:
            raise broken(
                self.path, field, "milliseconds since 1970 (a number above 0) or null are needed"
            )
        return at_ms / 1000


def _is_visible_json(name: str) -> bool:
    return name.endswith(_ENDING) and not name.startswith(".")


def _parse(path: Path, data: bytes) -> JsonObject:
    try:
        return parse_object(data)
    except ValueError as error:
        # Not chained: the parser's error carries the whole document, tokens and all.
        raise broken(path, "file", f"is not a JSON object ({error})") from None


def _iso(now_unix_s: float) -> str:
    return datetime.datetime.fromtimestamp(now_unix_s, tz=datetime.UTC).isoformat()
