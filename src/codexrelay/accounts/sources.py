"""Where accounts come from: the relay's own files, else Codex CLI's. Blocks: run it in a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

from codexrelay.accounts.account import Loaded
from codexrelay.accounts.files import BrokenFileError
from codexrelay.accounts.legacy import LegacyStore
from codexrelay.accounts.pool import Learnt
from codexrelay.accounts.state import state_of
from codexrelay.accounts.store import AccountStore
from codexrelay.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from codexrelay.accounts.account import Origin
    from codexrelay.accounts.files import Fingerprint
    from codexrelay.accounts.refresh import TokenFiles


@attrs.frozen(kw_only=True)
class Saved:
    """What came of storing what the pool has learnt."""

    learnt: tuple[Learnt, ...]
    #: Why the rest was not stored.
    problems: tuple[Problem, ...]


@attrs.frozen(kw_only=True)
class Sources:
    """Both kinds of account files, and which accounts in them may be used."""

    #: None: managed accounts are switched off.
    store: AccountStore | None
    #: None: `auth.json` may not be used.
    legacy: LegacyStore | None
    #: Local ids or workspace ids.
    allowed: Literal["all"] | tuple[str, ...] = "all"

    @property
    def token_files(self) -> Mapping[Origin, TokenFiles]:
        """The files that a refresh works on, by the kind of account."""
        files: dict[Origin, TokenFiles] = {}
        if self.store is not None:
            files["managed"] = self.store
        if self.legacy is not None:
            files["legacy"] = self.legacy
        return files

    def load(self) -> Loaded:
        """Return the accounts that may be used: Codex CLI's only if there is no managed file."""
        loaded = self.store.load() if self.store is not None else Loaded()
        if not loaded.found and self.legacy is not None:
            legacy = self.legacy.load()
            loaded = attrs.evolve(legacy, problems=loaded.problems + legacy.problems)
        return loaded if self.allowed == "all" else _only(loaded, self.allowed)

    def fingerprint(self) -> Fingerprint:
        """Return a value that changes whenever one of the files does. Reads no file."""
        sources = (self.store, self.legacy)
        return tuple(
            mark for source in sources if source is not None for mark in source.fingerprint()
        )

    def save_states(self, learnt: Iterable[Learnt], *, now_unix_s: float) -> Saved:
        """Store what the pool has learnt: cool-downs, figures, the latest use.

        What cannot be stored stays true in memory. Of a legacy account nothing is stored: its file
        is another program's.
        """
        stored: list[Learnt] = []
        problems: list[Problem] = []
        for one in learnt:
            account, before = one.account, one.before
            if account.origin == "legacy" or self.store is None:
                continue
            try:
                self.store.save_state(
                    account.id, state_of(account), before=state_of(before), now_unix_s=now_unix_s
                )
                stored.append(one)
            except BrokenFileError as error:
                problems.append(error.problem)
            except OSError as error:
                problems.append(Problem(where=f"account {account.id}", what=f"not saved: {error}"))
        return Saved(learnt=tuple(stored), problems=tuple(problems))

    def in_words(self) -> str:
        """Say where accounts were looked for."""
        places = []
        if self.store is not None:
            places.append(f"no account file in {self.store.folder}")
        if self.legacy is not None and self.legacy.folders:
            folders = " or ".join(str(folder) for folder in self.legacy.folders)
            places.append(f"no auth.json in {folders}")
        return ", ".join(places) or "the configuration allows no source of accounts"


def _only(loaded: Loaded, allowed: tuple[str, ...]) -> Loaded:
    """Keep the accounts that `allowed` names; a name that no account has is a problem."""
    accounts = tuple(account for account in loaded.accounts if account.matches(allowed))
    unknown = [name for name in allowed if not any(a.matches((name,)) for a in loaded.accounts)]
    problems = tuple(
        Problem(where=f"managed_oauth.accounts: {name}", what="no stored account has this id")
        for name in unknown
    )
    return attrs.evolve(loaded, accounts=accounts, problems=loaded.problems + problems)
