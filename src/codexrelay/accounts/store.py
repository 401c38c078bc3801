"""The relay's own accounts: one JSON file each, in one folder.

Beside `<id>.json`, which holds the tokens, stand `<id>.state.json` for what turns learn (so that a
note about quota can never lose a rotated token), `<id>.lock`, held while a file is rewritten, and
`<id>.refresh.lock`, held while a token is refreshed. Two locks, because a refresh may take half a
minute and a sign-in that stores new tokens must not wait for it. Lock files stay, also when the
account goes: whoever waits for one would else hold the lock of a deleted file. `<id>.refresh.sent`
marks a refresh token whose answer is not known (`sent_mark`); `.issuer.lock` and `.issuer.passed`
let one refresh at a time through, of all accounts here (`turnstile`).

An account file may be a symbolic link. Its locks and its mark stand beside the file that it leads
to: two folders that link to one file share its tokens, which are good for one use only.

Every rewrite starts from what is in the file under its lock, so nobody's change is reverted, keys
that are not known here included. A file that is broken is never written to.

Everything here blocks: callers run it in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.accounts.account import Credentials, FileFacts, Loaded, make_account
from codexrelay.accounts.files import (
    BrokenFileError,
    Locks,
    broken,
    file_size_bytes,
    fingerprint_of,
    make_folder,
    new_lock,
    read_bytes,
    real_path,
    remove_file,
    replace_json,
    why_open_to_others,
)
from codexrelay.accounts.record import Record, iso, parse_record
from codexrelay.accounts.sent_mark import SentMark
from codexrelay.accounts.state import AccountState, read_state, state_changes, with_state
from codexrelay.errors import Problem
from codexrelay.protocol.raw import get_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.accounts.account import Account
    from codexrelay.accounts.files import Fingerprint
    from codexrelay.protocol.raw import JsonObject

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_ID_RULE: Final = "an account id is 1 to 64 letters, digits, - and _, and begins with no - or _"
_ENDING: Final = ".json"
_STATE_ENDING: Final = ".state.json"
_WRITE_LOCK: Final = ".lock"
_FLIGHT_LOCK: Final = ".refresh.lock"
#: The end of the year 9999, which is as far as dates go.
_LATEST_UNIX_S: Final = 253_402_300_799.0
#: Longest wait for another process to finish its rewrite of one file.
_WRITE_LOCK_S: Final = 10.0
_UNNAMED_REASON: Final = "marked in its file"
#: Of a file that a sign-in may not write to.
_HOW_TO_GO_ON: Final = (
    "the file is left alone: mend it, or remove it (`codexrelay accounts remove {}`) and sign in"
)
#: Notes of a turn that a sign-in makes void.
_NOTES: Final = ("attention",)
#: What a new file says beside tokens and identity: other programs look for these keys.
_UNUSED: Final = (
    "last_used",
    "rate_limited_until",
    "last_codex_quota_headers",
    "last_codex_quota_observed_at",
    "last_codex_usage_limit",
)


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
        skipped: list[tuple[str, Problem]] = []
        if paths:
            problems += _open_to_others(self.folder)
        for path in paths:
            try:
                account = self._read(path, problems)
            except BrokenFileError as error:
                problems.append(error.problem)
                skipped.append((_id_of(path), error.problem))
            else:
                accounts += [account] if account is not None else []
                problems += _open_to_others(path)
        return Loaded(
            accounts=tuple(accounts),
            problems=tuple(problems),
            broken=tuple(skipped),
            found=bool(paths),
        )

    def read(self, account_id: str) -> Account | None:
        """Read one account, None if it has no file.

        Raises:
            BrokenFileError: the file cannot be used.
        """
        path = self.folder / f"{account_id}{_ENDING}"
        return self._read(path, []) if path.parent == self.folder else None

    def fingerprint(self) -> Fingerprint:
        """Return a value that changes whenever an account or state file does. Reads no file."""
        try:
            with os.scandir(self.folder) as entries:
                names = sorted(entry.name for entry in entries if _is_visible_json(entry.name))
            mode = self.folder.stat().st_mode
        except OSError:
            return ()
        # Of the folder no more: each lock file that is made in it changes its time.
        whole = (str(self.folder), 0, 0, 0, mode)
        return (whole, *fingerprint_of(self.folder / name for name in names))

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
        changes = _signed_in(credentials, now_unix_s)
        if credentials.id_token is None:
            del changes["id_token"]  # the old one still says whose account it is
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

    def create(
        self,
        account_id: str,
        credentials: Credentials,
        *,
        workspace_id: str | None,
        email: str | None,
        scope: str | None,
        now_unix_s: float,
    ) -> Account:
        """Store a new account; makes the folder.

        Raises:
            ValueError: `account_id` cannot be one.
            FileExistsError: the id is taken, if only by a file that cannot be used.
            OSError: nothing was written.
        """
        path = self._path(account_id)
        make_folder(self.folder)
        with self._write_lock(account_id):
            if os.path.lexists(path):
                told = "there is an account of this id already"
                raise FileExistsError(errno.EEXIST, told, str(path))
            new = _signed_in(credentials, now_unix_s)
            new |= _identity(workspace_id=workspace_id, email=email, scope=scope)
            return self._write_new(path, new, now_unix_s)

    def sign_in(
        self,
        account_id: str,
        credentials: Credentials,
        *,
        workspace_id: str | None,
        email: str | None,
        scope: str | None,
        now_unix_s: float,
    ) -> Account:
        """Store the tokens of a new sign-in, whatever tokens were there. Makes the file if need be.

        The account need not sign in again, and nobody need look at it any more; its cool-down and
        all other keys stay. A refresh that is under way with the old token will find it gone.

        Raises:
            ValueError: `account_id` cannot be one.
            OSError: the tokens were not written.
            BrokenFileError: the file is unusable; it is left alone, and says how to go on.
        """
        path = self._path(account_id)
        make_folder(self.folder)
        changes = _signed_in(credentials, now_unix_s)
        changes |= _identity(workspace_id=workspace_id, email=email, scope=scope)
        with self._write_lock(account_id):
            data = read_bytes(path)
            if data is None:
                return self._write_new(path, changes, now_unix_s)
            try:
                raw = parse_record(path, data).raw
                self._account(path, raw, [])  # broken in a field: left alone as well
            except BrokenFileError as error:
                told = f"{error.problem.what}; {_HOW_TO_GO_ON.format(account_id)}"
                raise BrokenFileError(attrs.evolve(error.problem, what=told)) from None
            # First, so that nothing can fail once the tokens are stored.
            self._forget_attention(account_id, now_unix_s)
            return self._write(path, raw | {key: None for key in _NOTES if key in raw} | changes)

    def save_state(
        self, account_id: str, state: AccountState, *, before: AccountState, now_unix_s: float
    ) -> None:
        """Note what turns have learnt since `before`. Does not touch the file that holds tokens.

        What is the same in both is left as it is stored: another process may know better. Of an
        account that was removed meanwhile nothing is kept.

        Raises:
            OSError: nothing was written.
            BrokenFileError: the state file is unusable; it is left alone.
        """
        changes = state_changes(state, before=before)
        path = self._path(account_id)
        if not changes or not path.exists():
            return
        with self._write_lock(account_id):
            if path.exists():
                self._change_state(account_id, changes, now_unix_s)

    def clear_limit(self, account_id: str, *, now_unix_s: float) -> bool:
        """End the account's cool-down, wherever it is stored; False if there was none.

        Raises:
            OSError: it was not cleared, or not everywhere.
            BrokenFileError: a file is unusable; it is left alone.
        """
        over: JsonObject = {"rate_limited_until": None}
        return self._clear(account_id, over, in_state=over, now_unix_s=now_unix_s)

    def clear_reauth(self, account_id: str, *, now_unix_s: float) -> bool:
        """Let the account be used again as it is; False if nothing spoke against it.

        Takes away the mark that the owner must sign in again, and what he must look at.

        Raises:
            OSError: it was not cleared, or not everywhere.
            BrokenFileError: a file is unusable; it is left alone.
        """
        unmarked: JsonObject = {"needs_reauth": False, "consecutive_auth_failures": 0}
        seen: JsonObject = {"attention": None}
        return self._clear(account_id, unmarked | seen, in_state=seen, now_unix_s=now_unix_s)

    def remove(self, account_id: str) -> bool:
        """Delete the account's files, also broken ones; False if there is no such account.

        Raises:
            OSError: something of it is still there.
        """
        path = self.folder / f"{account_id}{_ENDING}"
        if path not in self._account_paths():  # keeps to this folder, whatever the id says
            return False
        with self._write_lock(account_id):
            is_link, mark = os.path.islink(path), SentMark.beside(self.flight_lock(account_id))
            removed = remove_file(path)
            remove_file(self._state_path(account_id))
            if not is_link:  # else the file stays, and with it what is known of its token
                remove_file(mark.path)
        return removed

    def flight_lock(self, account_id: str) -> Locks:
        """Return the lock that whoever refreshes the account holds, in whichever process."""
        return Locks((self._beside(account_id, _FLIGHT_LOCK),))

    def size_bytes(self, account_id: str) -> int:
        """Return the size of the account's file, 0 if there is none."""
        return file_size_bytes(self.folder / f"{account_id}{_ENDING}")

    def _path(self, account_id: str) -> Path:
        if _ID.fullmatch(account_id) is None:
            raise ValueError(f"{account_id!r} is no account id: {_ID_RULE}")
        return self.folder / f"{account_id}{_ENDING}"

    def _beside(self, account_id: str, ending: str) -> Path:
        """Return the neighbour of the account's file, of the one that holds the tokens."""
        real = real_path(self.folder / f"{account_id}{_ENDING}")
        return real.with_name(real.name.removesuffix(_ENDING) + ending)

    def _state_path(self, account_id: str) -> Path:
        return self.folder / f"{account_id}{_STATE_ENDING}"

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
            if os.path.islink(path):
                raise broken(path, "file", "is a symbolic link to a file that is not there")
            return None
        return self._account(path, parse_record(path, data).raw, problems)

    def _write(self, path: Path, raw: JsonObject) -> Account:
        """Write an account file, under the lock, and return the account."""
        account = self._account(path, raw, [])  # first: what would be broken is not written
        replace_json(path, raw)
        return account

    def _write_new(self, path: Path, new: JsonObject, now_unix_s: float) -> Account:
        """Write an account file that was not there, under the lock."""
        # What is left of an account whose file somebody deleted says nothing of this one.
        remove_file(self._state_path(_id_of(path)))
        first: JsonObject = {"account_id": _id_of(path), "created_at": iso(now_unix_s)}
        return self._write(path, first | new | dict.fromkeys(_UNUSED))

    def _raw(self, path: Path) -> JsonObject:
        data = read_bytes(path)
        if data is None:
            raise FileNotFoundError(2, "the account's file is gone", str(path))
        return parse_record(path, data).raw

    def _account(self, path: Path, raw: JsonObject, problems: list[Problem]) -> Account:
        record = Record(path, raw)
        account_id = _id_of(path)
        _check_id(record, account_id)
        needs_reauth = record.flag("needs_reauth")
        account = make_account(
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
        )
        facts = FileFacts(
            created_at=get_text(raw, "created_at"),
            updated_at=get_text(raw, "updated_at"),
            scope=get_text(raw, "scope"),
            token_type=get_text(raw, "token_type"),
        )
        state = self._state(account_id, record, problems)
        return with_state(attrs.evolve(account, file=facts), state)

    def _state(self, account_id: str, record: Record, problems: list[Problem]) -> AccountState:
        """Return what turns learnt. Where it cannot be read, the account is usable all the same."""
        path = self._state_path(account_id)
        try:
            data = read_bytes(path)
            own = None if data is None else parse_record(path, data)
        except BrokenFileError as error:
            problems.append(error.problem)
            return AccountState()
        state, told = read_state(own, record)
        problems += told
        return state

    def _change(
        self, account_id: str, changes: JsonObject, *, expected_refresh_token: str
    ) -> Account:
        path = self._path(account_id)
        with self._write_lock(account_id):
            raw = self._raw(path)
            stored = self._account(path, raw, [])
            if stored.credentials.refresh_token != expected_refresh_token:
                return stored
            return self._write(path, raw | changes)

    def _change_state(self, account_id: str, changes: JsonObject, now_unix_s: float) -> None:
        """Write keys of the state file, under the lock."""
        path = self._state_path(account_id)
        state = parse_record(path, read_bytes(path) or b"{}").raw
        replace_json(path, state | changes | {"updated_at": iso(now_unix_s)})

    def _clear(
        self, account_id: str, changes: JsonObject, *, in_state: JsonObject, now_unix_s: float
    ) -> bool:
        """Put `changes` into the account file and `in_state` beside it, if they say otherwise."""
        path, state_path = self._path(account_id), self._state_path(account_id)
        with self._write_lock(account_id):
            raw = self._raw(path)
            self._account(path, raw, [])  # broken in a field: left alone
            state = parse_record(state_path, read_bytes(state_path) or b"{}").raw
            stands = _overruled(raw, changes)
            stands_beside = _overruled(state, in_state)
            if stands_beside:
                self._change_state(account_id, stands_beside, now_unix_s)
            if stands:
                replace_json(path, raw | stands | {"updated_at": iso(now_unix_s)})
        return bool(stands or stands_beside)

    def _forget_attention(self, account_id: str, now_unix_s: float) -> None:
        path = self._state_path(account_id)
        with contextlib.suppress(BrokenFileError):  # a note must not keep new tokens out
            state = parse_record(path, read_bytes(path) or b"{}").raw
            if state.get("attention") is not None:
                self._change_state(account_id, {"attention": None}, now_unix_s)

    @contextlib.contextmanager
    def _write_lock(self, account_id: str) -> Iterator[None]:
        lock = new_lock(self._beside(account_id, _WRITE_LOCK))
        with lock.acquire(timeout=_WRITE_LOCK_S):
            yield


def _open_to_others(path: Path) -> list[Problem]:
    """Return the line that says that others may see tokens, if they may.

    It is not mended here: the folder may be one that the owner shares on purpose, his home even;
    and each file is closed by the next write.
    """
    why = why_open_to_others(path)
    return [] if why is None else [Problem(where=str(path), what=why)]


def _check_id(record: Record, account_id: str) -> None:
    """The name of the file is the account's id; the id inside must agree."""
    if _ID.fullmatch(account_id) is None:
        raise broken(record.path, "file name", _ID_RULE)
    inside = record.text("account_id")
    if inside is not None and inside != account_id:
        raise broken(record.path, "account_id", "is not the name of the file")


def _signed_in(credentials: Credentials, now_unix_s: float) -> JsonObject:
    """Return the keys that new tokens change, whichever way they came."""
    expires = credentials.expires_at_unix_s
    if expires is not None and not 0.001 <= expires <= _LATEST_UNIX_S:
        expires = None  # a claim of nonsense
    return {
        "access_token": credentials.access_token,
        "refresh_token": credentials.refresh_token,
        "id_token": credentials.id_token,
        "expiry_date": None if expires is None else round(expires * 1000),
        "updated_at": iso(now_unix_s),
        "needs_reauth": False,
        "consecutive_auth_failures": 0,
    }


def _identity(*, workspace_id: str | None, email: str | None, scope: str | None) -> JsonObject:
    """Return the keys that say whose tokens they are; None is written too, over another's."""
    return {
        "chatgpt_account_id": workspace_id,
        "email": email,
        "scope": scope,
        "token_type": "Bearer",
    }


def _overruled(raw: JsonObject, changes: JsonObject) -> JsonObject:
    """Return those of `changes` that change something; what is null or missing says nothing."""
    return {key: value for key, value in changes.items() if raw.get(key) not in (None, value)}


def _id_of(path: Path) -> str:
    return path.name.removesuffix(_ENDING)


def _is_visible_json(name: str) -> bool:
    return name.endswith(_ENDING) and not name.startswith(".")
