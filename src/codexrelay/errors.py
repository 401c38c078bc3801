"""What can go wrong, as a tree.

CodexRelayError
├── ConfigError             the configuration cannot be used; nothing was started
├── RequestError            the client's request is at fault: 4xx, nothing was sent upstream
├── AccountError            no account can take the turn
│   ├── NoAccountError      none is stored, or none that is allowed
│   ├── UnusableFilesError  there are account files, and none can be used
│   ├── NeedsReauthError    the owner must sign in again
│   ├── AllLimitedError     every account waits for its quota
│   ├── ThrottledError      every account was asked too fast, and waits for a few seconds
│   ├── ModelNotOfferedError  no account's plan offers the model
│   ├── TurnedAwayError     the backend has turned every account away
│   ├── AllTriedError       the turn has tried every account
│   ├── RefreshUnavailableError  tokens have run out and cannot be renewed at the moment
│   ├── BackendRestsError   a backend of another kind has asked not to be asked for a while
│   └── KeyUnusableError    the API key of a backend of another kind cannot be sent
├── LoginError              a sign-in did not come about (accounts/login/errors.py)
├── EnrolError              a sign-in cannot be stored (accounts/enrol.py, with its leaves)
├── UsageUnavailableError   the backend did not tell an account's quota (accounts/usage.py)
├── EventTooLargeError      one upstream event is larger than we keep
├── SessionStoreError       what is kept of sessions is out of reach (sessions/store.py)
└── SessionLostError        the session's actor has ended

Each leaf carries data; its text is derived from the data and says what to do next. The server maps
classes to statuses and bodies in one table.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Accounts that a text names: with hundreds of them nobody would find what the text says.
MAX_NAMED: Final = 8
#: What lets accounts be used that a list of names leaves out.
_ALLOW: Final = "Set managed_oauth.accounts to all, or to names of `codexrelay accounts list`"


class CodexRelayError(Exception):
    """Base of everything this package raises on purpose."""


@attrs.frozen
class Problem:
    """One thing that is wrong with the configuration or an account file."""

    #: Full key path (`server.port`), the name of the variable or flag, or file and field.
    where: str
    #: What is wrong with it and what would be right.
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@attrs.frozen
class ConfigError(CodexRelayError):
    """The configuration cannot be used. All problems are reported together."""

    problems: tuple[Problem, ...]

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


@attrs.frozen(kw_only=True)
class RequestError(CodexRelayError):
    """The client's request is at fault; nothing was sent upstream."""

    message: str
    #: Path of the field at fault in the client's body (`messages[3].content[0]`), if one is.
    param: str | None = None
    code: str | None = None
    status: int = 400
    type: str = "invalid_request_error"

    def __str__(self) -> str:
        return self.message


class AccountError(CodexRelayError):
    """No account can take the turn."""


@attrs.frozen(kw_only=True)
class NoAccountError(AccountError):
    """There is no account at all, or none that the configuration allows."""

    #: Where accounts were looked for, in words (`no account file in DIR, no auth.json in DIR`).
    looked_in: str
    #: Whether accounts of the relay's own may be used (managed_oauth.enabled).
    managed: bool = True
    #: Whether Codex CLI's may.
    legacy: bool = True
    #: Whether `managed_oauth.accounts` allows an account whatever its name.
    every: bool = True

    def __str__(self) -> str:
        told, add = f"no Codex account to use: {self.looked_in}", "`codexrelay accounts add`"
        if not self.every:
            return f"{told}. {_ALLOW}; if there is none: {add}"
        if not self.managed:
            return (
                f"{told}. Sign in with Codex CLI (`codex login`), for which no restart is needed, "
                f"or set managed_oauth.enabled: true and run {add}"
            )
        codex = ", or sign in with Codex CLI (`codex login`)" if self.legacy else ""
        return f"{told}. Run {add}{codex}; no restart is needed"


@attrs.frozen(kw_only=True)
class UnusableFilesError(AccountError):
    """There are account files, but none that can be used."""

    problems: tuple[Problem, ...]
    #: Whether accounts of the relay's own may be used (managed_oauth.enabled).
    managed: bool = True

    def __str__(self) -> str:
        told = "; ".join(str(problem) for problem in self.problems)
        told = f"no Codex account to use: {told}. Mend what is named here"
        if any(problem.where.startswith("managed_oauth.accounts") for problem in self.problems):
            return f"{told}. {_ALLOW}"  # what else were added would be left out too
        if not self.managed:
            return f"{told}; no restart is needed"
        return f"{told}, or run `codexrelay accounts add`; no restart is needed"


@attrs.frozen(kw_only=True)
class NeedsReauthError(AccountError):
    """Every account that could serve the turn must sign in again."""

    #: Local account id -> why (an issuer's code such as `refresh_token_reused`, or words).
    reasons: tuple[tuple[str, str], ...]
    #: The account is Codex CLI's own: it signs in there.
    legacy: bool = False
    #: The further instance whose accounts these are.
    instance: str | None = None

    def __str__(self) -> str:
        told = _listed([f"account {name} must sign in again ({why})" for name, why in self.reasons])
        names = [name for name, _ in self.reasons]
        commands = "`codex login`" if self.legacy else _commands("update", names, self.instance)
        return f"{told}. Run {commands}; no restart is needed"


@attrs.frozen(kw_only=True)
class Waiting:
    """An account that waits, and for how long."""

    account_id: str
    #: When it may be tried again, Unix seconds.
    until_unix_s: float
    plan_type: str | None = None


@attrs.frozen(kw_only=True)
class AllLimitedError(AccountError):
    """Every usable account waits for its quota; no upstream call was made."""

    #: Those that wait for their quota; at least one.
    waiting: tuple[Waiting, ...]
    now_unix_s: float
    #: What stands in the way of every account, in words.
    told: tuple[str, ...] = ()
    #: The account is Codex CLI's own: there is no other to turn to.
    legacy: bool = False

    @property
    def first(self) -> Waiting:
        """The one that is free again first."""
        return min(self.waiting, key=lambda waiting: waiting.until_unix_s)

    @property
    def resets_in_s(self) -> int:
        """Whole seconds until the earliest recovery, at least 1."""
        return max(1, math.ceil(self.first.until_unix_s - self.now_unix_s))

    def __str__(self) -> str:
        again = f"free again in {in_words(self.resets_in_s)}"
        if self.legacy:
            return (
                f"The usage limit has been reached; it is {again}. Codex CLI's sign-in is a single "
                "account, so there is no other to turn to: `codexrelay accounts add` adds some, "
                "which are used unless managed_oauth.enabled is false"
            )
        told = f": {_listed(self.told)}" if len(self.told) > 1 else ""
        if len(self.waiting) == 1:
            name = self.first.account_id
            return f"The usage limit has been reached; account {name} is {again}{told}"
        return (
            f"The usage limit has been reached for every account; {self.first.account_id} is "
            f"{again}{told}"
        )


@attrs.frozen(kw_only=True)
class ThrottledError(AccountError):
    """Every usable account was asked too fast; no upstream call was made."""

    waiting: tuple[Waiting, ...]
    now_unix_s: float
    #: What the backend said to the one that is free again first.
    message: str

    @property
    def retry_after_s(self) -> float:
        """Seconds until the first one may be asked again."""
        return max(0.0, min(w.until_unix_s for w in self.waiting) - self.now_unix_s)

    def __str__(self) -> str:
        names = _listed([waiting.account_id for waiting in self.waiting], ", ")
        return f"{self.message} (account {names}; please try again in {self.retry_after_s:.3g}s)"


@attrs.frozen(kw_only=True)
class ModelNotOfferedError(AccountError):
    """No account's plan offers the model; no upstream call was made."""

    model: str
    #: The plans that offer it; empty when that is not known.
    plans: tuple[str, ...]
    #: The backend's catalogue does not have it at all.
    is_unknown: bool = False
    #: Local account id -> its plan.
    accounts: tuple[tuple[str, str | None], ...]

    def __str__(self) -> str:
        have = _listed([f"{name} ({plan or 'plan unknown'})" for name, plan in self.accounts], ", ")
        offer = f"; the plans that do: {', '.join(self.plans)}" if self.plans else ""
        if self.is_unknown:
            offer = "; the backend's catalogue does not have it"
        return (
            f"The model '{self.model}' is not offered by the plan of any account: {have}{offer}. "
            "`GET /v1/models` lists the models; `codexrelay accounts add` adds an account"
        )


@attrs.frozen(kw_only=True)
class TurnedAwayError(AccountError):
    """The backend has turned every usable account away a while ago; no upstream call was made."""

    #: The backend's own answer to the account that is tried again first.
    status: int
    message: str
    type: str
    code: str | None
    #: What stands in the way of each account, and when it is tried again, in words.
    told: tuple[str, ...]
    #: Local ids of those whose plan or workspace has no Codex.
    without_codex: tuple[str, ...] = ()
    #: Local ids of those whose tokens it refused.
    refused: tuple[str, ...] = ()
    #: The account is Codex CLI's own: no command of ours is about it.
    legacy: bool = False
    #: The further instance whose accounts these are.
    instance: str | None = None

    def __str__(self) -> str:
        told = f"{self.message} ({_listed(self.told)})"
        if self.without_codex and not self.legacy:
            told += f"; once that is mended: {self._commands('clear-reauth', self.without_codex)}"
        if self.refused:
            again = "`codex login`" if self.legacy else self._commands("update", self.refused)
            told += f"; if tokens go on being refused: {again}"
        return told

    def _commands(self, command: str, names: Sequence[str]) -> str:
        return _commands(command, names, self.instance)


@attrs.frozen(kw_only=True)
class AllTriedError(AccountError):
    """The turn has tried every account that could serve it: its last fault is the answer."""

    #: What stands in the way of each account, in words.
    told: tuple[str, ...]

    def __str__(self) -> str:
        return f"no Codex account is left for this turn: {_listed(self.told)}"


@attrs.frozen(kw_only=True)
class RefreshUnavailableError(AccountError):
    """No account has a good token, and the sign-in service cannot be asked for one right now."""

    #: What stands in the way of each account, in words.
    told: tuple[str, ...]

    def __str__(self) -> str:
        return f"{_listed(self.told)}. Nothing is lost; try again in a moment"


@attrs.frozen(kw_only=True)
class BackendRestsError(AccountError):
    """A backend of another kind has asked not to be asked for a while; no call was made."""

    backend: str
    until_unix_s: float
    now_unix_s: float
    #: The backend's own words when it asked for it, and their type and code.
    message: str
    type: str
    code: str | None = None
    #: Its quota is spent, which is more than having been asked too fast.
    is_limit: bool = False

    @property
    def retry_after_s(self) -> float:
        """Seconds until it is asked again."""
        return max(0.0, self.until_unix_s - self.now_unix_s)

    def __str__(self) -> str:
        wait_s = math.ceil(self.retry_after_s)
        return (
            f"{self.message} (backend {self.backend} is asked again in {in_words(wait_s)}; a route "
            "in models.routes that lists another backend too would go there meanwhile)"
        )


@attrs.frozen(kw_only=True)
class KeyUnusableError(AccountError):
    """The API key of a backend of another kind cannot be sent; no call was made."""

    backend: str
    problem: Problem

    def __str__(self) -> str:
        return f"backend {self.backend} has no API key to send: {self.problem}"


@attrs.frozen(kw_only=True)
class EventTooLargeError(CodexRelayError):
    """One upstream event is larger than the relay keeps in memory."""

    limit_bytes: int

    def __str__(self) -> str:
        return f"an upstream event is larger than {self.limit_bytes} bytes"


class SessionLostError(CodexRelayError):
    """The session's actor has ended; the next request of the session starts a new one."""


def _listed(told: Sequence[str], between: str = "; ") -> str:
    """Join what is told of each account; of many, some and how many more there are."""
    more = len(told) - MAX_NAMED
    if more <= 0:
        return between.join(told)
    return f"{between.join(told[:MAX_NAMED])}{between}and {more} more account{'s' * (more > 1)}"


def _commands(command: str, names: Sequence[str], instance: str | None) -> str:
    of = "" if instance is None else f" --instance {instance}"
    told = [f"`codexrelay accounts {command} {name}{of}`" for name in names[:MAX_NAMED]]
    return " or ".join(told)


def in_words(seconds: float) -> str:
    """Return a duration as a person says it: `45 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
