"""One backend block of the configuration, and the accounts that it has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from codexrelay.accounts.account import Account, Loaded, Origin
from codexrelay.accounts.legacy import LegacyStore
from codexrelay.accounts.store import AccountStore
from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.cli.accounts.failure import FailureError, UnknownNameError
from codexrelay.cli.process import sources_of
from codexrelay.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from codexrelay.accounts.refresh import TokenFiles
    from codexrelay.accounts.settings import ManagedOAuthSettings


@attrs.frozen(kw_only=True)
class Entry:
    """An account, and whether the relay would lend it."""

    account: Account
    #: Why the relay leaves it alone whatever its state is; None: it does not.
    unused: str | None = None


@attrs.frozen(kw_only=True)
class Stock:
    """What a look at all files of an instance found."""

    entries: tuple[Entry, ...]
    #: Files that cannot be used, by the id that their name says.
    broken: tuple[tuple[str, Problem], ...]
    #: What else should be looked at.
    problems: tuple[Problem, ...]
    #: Where the relay takes its accounts from, in words.
    source: str
    #: The same for programs: `managed`, `legacy`, or None for nowhere.
    origin: Origin | None

    @property
    def accounts(self) -> tuple[Account, ...]:
        """The accounts alone."""
        return tuple(entry.account for entry in self.entries)

    def names(self) -> str:
        """Return the ids that there are, for messages."""
        ids = [account.id for account in self.accounts] + [name for name, _ in self.broken]
        return ", ".join(ids)


@attrs.frozen(kw_only=True)
class Instance:
    """A backend block under its name. Its methods read files and block."""

    name: str
    codex: CodexBackendSettings
    #: That may hold Codex CLI's `auth.json`, in order.
    legacy_folders: tuple[Path, ...]

    @property
    def managed(self) -> ManagedOAuthSettings:
        """The settings of its account store."""
        return self.codex.extra.codex.managed_oauth

    @property
    def issuer_url(self) -> str:
        """The sign-in service."""
        return self.codex.extra.codex.oauth_issuer

    @property
    def store(self) -> AccountStore:
        """The managed accounts, also where the relay is told not to use them."""
        return AccountStore(Path(self.managed.storage_path))

    @property
    def token_files(self) -> Mapping[Origin, TokenFiles]:
        """The files that a refresh works on, by the kind of account."""
        return {"managed": self.store, "legacy": LegacyStore(self.legacy_folders)}

    def legacy_file(self) -> Path | None:
        """Return Codex CLI's `auth.json`, None if there is none."""
        # `Path.is_file` raises where a folder may not be searched (Python 3.11).
        paths = [folder / "auth.json" for folder in self.legacy_folders]
        return next((path for path in paths if os.path.isfile(path)), None)

    def file_of(self, account: Account) -> Path | None:
        """Return the file that an account was read from."""
        if account.origin == "legacy":
            return self.legacy_file()
        return self.store.folder / f"{account.id}.json"

    def look(self) -> Stock:
        """Read everything that there is, used or not."""
        managed = self.store.load()
        sources = sources_of(self.managed, self.legacy_folders)
        fallback = sources.legacy is not None and (sources.store is None or not managed.found)
        legacy = sources.legacy.load() if sources.legacy is not None and fallback else Loaded()
        accounts = (*managed.accounts, *legacy.accounts)
        skipped = {problem for _, problem in managed.broken}
        others = [problem for problem in managed.problems if problem not in skipped]
        origin: Origin | None = None
        if managed.found and sources.store is not None:
            origin = "managed"
        elif legacy.found:
            origin = "legacy"
        return Stock(
            entries=tuple(
                Entry(account=account, unused=self.why_unused(account)) for account in accounts
            ),
            broken=managed.broken,
            problems=(*others, *legacy.problems, *self._unknown_names(accounts)),
            source=self._source(origin),
            origin=origin,
        )

    def _source(self, origin: Origin | None) -> str:
        folder = self.store.folder
        if origin == "managed":
            return f"managed accounts in {folder} ({self.managed.selection_strategy})"
        if origin == "legacy":
            why = f"there is no account file in {folder}"
            if not self.managed.enabled:
                why = "managed accounts are switched off (managed_oauth.enabled)"
            return f"Codex CLI's sign-in in {self.legacy_file()}, because {why}"
        return sources_of(self.managed, self.legacy_folders).in_words()

    def why_unused(self, account: Account) -> str | None:
        """Say why the relay would not lend the account, whatever its state; None: it would."""
        if account.origin == "managed" and not self.managed.enabled:
            return "managed_oauth.enabled is false"
        allowed = self.managed.accounts
        if allowed != "all" and not account.matches(allowed):
            return "managed_oauth.accounts does not name it"
        return None

    def _unknown_names(self, accounts: Iterable[Account]) -> tuple[Problem, ...]:
        allowed, known = self.managed.accounts, tuple(accounts)
        unknown = () if allowed == "all" else allowed
        return tuple(
            Problem(where=f"managed_oauth.accounts: {name}", what="no stored account has this id")
            for name in unknown
            if not any(account.matches((name,)) for account in known)
        )

    def find(self, name: str) -> Entry | tuple[str, Problem]:
        """Return the account of this name, or the id and problem of its broken file.

        A name is the local id, else the workspace id or the e-mail where only one account has it.

        Raises:
            UnknownNameError: there is none.
            FailureError: there is more than one, or the folder cannot be listed.
        """
        stock = self.look()
        for entry in stock.entries:
            if entry.account.id == name:
                return entry
        for broken in stock.broken:
            if broken[0] == name:
                return broken
        alike = [entry for entry in stock.entries if _is_called(entry.account, name)]
        if len(alike) == 1:
            return alike[0]
        if alike:
            ids = ", ".join(entry.account.id for entry in alike)
            raise FailureError(f"{name} are several accounts: {ids}. Name one by its id")
        managed = self.store.load()
        if managed.found and not (managed.accounts or managed.broken) and managed.problems:
            told = "; ".join(map(str, managed.problems))
            raise FailureError(f"account {name} cannot be looked for: {told}")
        if names := stock.names():
            raise UnknownNameError(
                f"there is no account {name} in {self.store.folder}; known: {names}"
            )
        raise UnknownNameError(
            f"there is no account {name}, as there is none at all in {self.store.folder}: "
            "`codexrelay accounts add` adds one"
        )

    def knows(self, name: str) -> bool:
        """Tell whether a name speaks of an account here, usable or not."""
        try:
            self.find(name)
        except FailureError:
            return False
        return True

    def managed_of(self, found: Entry | tuple[str, Problem]) -> Account:
        """Return the managed account that was found.

        Raises:
            FailureError: it cannot be used, or it is Codex CLI's.
        """
        if not isinstance(found, Entry):
            account_id, problem = found
            raise FailureError(
                f"{problem}; mend the file, or remove it with "
                f"`codexrelay accounts remove {account_id}` and sign in anew"
            )
        if found.account.origin == "legacy":
            raise FailureError(
                f"{found.account.id} is Codex CLI's own sign-in ({self.legacy_file()}), which only "
                "`codex login` changes; `codexrelay accounts add` adds an account of the relay's"
            )
        return found.account


def _is_called(account: Account, name: str) -> bool:
    if account.workspace_id == name:
        return True
    return account.email is not None and account.email.casefold() == name.casefold()
