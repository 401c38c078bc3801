"""From a sign-in to a stored account: which file it goes to, and what it must not replace.

An identity is a user in a workspace. It has one account, whatever the account is called; signing in
again renews that one. Nobody's account is ever overwritten by another identity's tokens, unless the
owner says so by name.

Everything here blocks: callers run it in a thread.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.accounts.account import Account, Credentials, can_be_sent
from codexrelay.accounts.files import BrokenFileError, make_folder, new_lock
from codexrelay.accounts.layouts import is_personal, layout_of, why_no_tokens
from codexrelay.accounts.login.authorize import SCOPE
from codexrelay.accounts.login.signed_in import read_signed_in
from codexrelay.errors import CodexRelayError
from codexrelay.protocol.claims import read_claims
from codexrelay.protocol.raw import get_number, get_text, parse_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.accounts.login.signed_in import SignedIn
    from codexrelay.accounts.store import AccountStore
    from codexrelay.protocol.raw import JsonObject

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MOST_CHARACTERS: Final = 64
#: For an identity of which no token names an e-mail.
_NAMELESS: Final = "codex"
#: Characters of a workspace id that are enough to tell it from others.
_SHORT_ID: Final = 8
#: Held while a sign-in looks for its account: two of one identity must not both find none.
_LOCK: Final = ".enrol.lock"
#: Longest wait for another sign-in to be stored.
_LOCK_S: Final = 10.0
#: Keys that only account files of relays have. There `account_id` is the file's name, and no
#: workspace's id.
_MANAGED_KEYS: Final = ("expiry_date", "chatgpt_account_id")
_SIGN_IN: Final = "sign in with `codexrelay accounts add` instead"


class EnrolError(CodexRelayError):
    """A sign-in cannot become an account; the stored accounts are as they were."""


@attrs.frozen
class UnusableIdError(EnrolError):
    """The name asked for cannot be that of an account."""

    account_id: str

    def __str__(self) -> str:
        return (
            f"{self.account_id!r} cannot be the id of an account: 1 to 64 letters, digits, - and _ "
            "are needed, and a letter or digit first"
        )


@attrs.frozen
class UnknownAccountError(EnrolError):
    """There is no account to renew."""

    account_id: str

    def __str__(self) -> str:
        return f"there is no account {self.account_id}: `codexrelay accounts list` shows all"


@attrs.frozen
class BrokenAccountError(EnrolError):
    """The account's file cannot be used, and is left alone."""

    told: str

    def __str__(self) -> str:
        return self.told


@attrs.frozen(kw_only=True)
class OtherIdentityError(EnrolError):
    """Somebody else has signed in than the account belongs to."""

    account_id: str
    #: Who the account belongs to, and who has signed in, in words.
    stored: str
    signed_in: str

    def __str__(self) -> str:
        return (
            f"account {self.account_id} belongs to {self.stored}, but {self.signed_in} has signed "
            "in. Nothing was changed. Sign in as the former, add the latter with `codexrelay "
            f"accounts add`, or replace the account with `codexrelay accounts update "
            f"{self.account_id} --force`"
        )


@attrs.frozen
class OlderTokensError(EnrolError):
    """A file's tokens are older than those that are stored: one of its tokens may be spent."""

    account_id: str

    def __str__(self) -> str:
        return (
            f"account {self.account_id} is this identity, and its tokens are newer than the "
            "file's. Nothing was changed. To sign in anew: `codexrelay accounts update "
            f"{self.account_id}`"
        )


@attrs.frozen
class NotImportableError(EnrolError):
    """A file holds no sign-in that the relay can use."""

    why: str

    def __str__(self) -> str:
        return f"the file cannot be imported: {self.why}; {_SIGN_IN}"


@attrs.frozen
class UnusableStoreError(EnrolError):
    """Nothing can be stored in the folder of the account files."""

    folder: Path
    why: str

    def __str__(self) -> str:
        return f"no account can be stored in {self.folder}: {self.why}"


@attrs.frozen(kw_only=True)
class Enrolled:
    """What became of a sign-in."""

    #: As it is stored now. Its id may differ from the one asked for.
    account: Account
    #: False: the identity had an account, which has new tokens now.
    created: bool
    #: The account holds this very refresh token already, and was left as it is.
    unchanged: bool = False


def usable_id(text: str) -> bool:
    """Tell whether an account may be called so."""
    return _ID.fullmatch(text) is not None


def check_store(store: AccountStore) -> None:
    """Find out whether a sign-in could be stored, before anybody signs in; makes the folder.

    Raises:
        UnusableStoreError: it could not; nothing else in the folder was touched.
    """
    with _locked(store):
        pass


def enrol(
    store: AccountStore, signed_in: SignedIn, *, account_id: str | None, now_unix_s: float
) -> Enrolled:
    """Store a sign-in: in the identity's own account if it has one, else in a new one.

    An account that holds the very same refresh token is that account, whatever is known of its
    owner: in two accounts one token would be sent twice, and its owner signed out.

    A new account gets the id asked for, else one made of the e-mail. Where that id belongs to
    another identity, or to a file that cannot be read, it gets an ending: the plan, else the
    beginning of the workspace id, else a number.

    Raises:
        EnrolError: nothing was stored; the subclass says why.
        OSError: nothing was stored.
    """
    if account_id is not None and not usable_id(account_id):
        raise UnusableIdError(account_id)
    with _locked(store):
        return _enrolled(store, signed_in, account_id, now_unix_s)


def _enrolled(
    store: AccountStore, signed_in: SignedIn, account_id: str | None, now_unix_s: float
) -> Enrolled:
    names = _names(account_id or _base_name(signed_in), signed_in)
    while True:
        # Looked at anew each time: another program may have taken the name meanwhile, or may have
        # stored this very identity.
        loaded = store.load()
        own = _holder(loaded.accounts, signed_in)
        if own is not None and _is_held(own, signed_in):
            return Enrolled(account=own, created=False, unchanged=True)
        if own is not None:
            _check_age(own, signed_in)
            renewed = _renewed(store, own.id, signed_in, now_unix_s)
            return Enrolled(account=renewed, created=False)
        # A file system may take two names that differ in case for one.
        taken = {account.id.casefold() for account in loaded.accounts}
        created = _created(
            store,
            next(name for name in names if name.casefold() not in taken),
            signed_in,
            now_unix_s,
        )
        if created is not None:
            return Enrolled(account=created, created=True)


def _holder(accounts: tuple[Account, ...], signed_in: SignedIn) -> Account | None:
    """Return the account with this refresh token, else that of the identity, else None."""
    token = signed_in.credentials.refresh_token
    held = [a for a in accounts if token is not None and a.credentials.refresh_token == token]
    return next(iter([*held, *(a for a in accounts if _is_same(a, signed_in))]), None)


def _is_held(account: Account, signed_in: SignedIn) -> bool:
    """Tell whether the account has nothing to gain: this refresh token, and no older access."""
    stored, offered = account.credentials, signed_in.credentials
    if signed_in.fresh or offered.refresh_token is None:
        return False
    if stored.refresh_token != offered.refresh_token:
        return False
    return stored.access_token == offered.access_token or (
        (offered.expires_at_unix_s or 0.0) <= (stored.expires_at_unix_s or 0.0)
    )


@contextlib.contextmanager
def _locked(store: AccountStore) -> Iterator[None]:
    """Let one sign-in at a time look for its account.

    Raises:
        UnusableStoreError: there is no folder that can be written to.
    """
    try:
        make_folder(store.folder)
        lock = new_lock(store.folder / _LOCK)
        lock.acquire(timeout=_LOCK_S)
    except FileExistsError:  # a file, or a link to nothing
        raise UnusableStoreError(store.folder, "it is no folder") from None
    except TimeoutError:
        raise UnusableStoreError(
            store.folder, "another program has been storing a sign-in there for too long"
        ) from None
    except OSError as error:
        raise UnusableStoreError(store.folder, error.strerror or str(error)) from None
    try:
        yield
    finally:
        lock.release()


def renew(
    store: AccountStore, account_id: str, signed_in: SignedIn, *, force: bool, now_unix_s: float
) -> Account:
    """Give a stored account the tokens of a sign-in, and return it.

    Refused where the sign-in is another identity's, unless forced. What the account does not say of
    itself, it agrees to.

    Raises:
        EnrolError: nothing was stored; the subclass says why.
        OSError: nothing was stored.
    """
    try:
        account = store.read(account_id)
    except BrokenFileError as error:
        raise BrokenAccountError(str(error)) from None
    if account is None:
        raise UnknownAccountError(account_id)
    if not force and _differs(account, signed_in):
        raise OtherIdentityError(
            account_id=account_id,
            stored=_in_words(account.email, account.workspace_id, account.user_id),
            signed_in=_in_words(signed_in.email, signed_in.workspace_id, signed_in.user_id),
        )
    return _renewed(store, account_id, signed_in, now_unix_s)


def imported(data: bytes) -> SignedIn:
    """Return the sign-in in another program's file: Codex CLI's, CLIProxyAPI's or codex-lb's.

    A managed account file of this relay, or of another one of the same format, is read as such.

    From now on two programs hold one refresh token, which is good for one refresh: the first one
    to refresh signs the other out.

    Raises:
        NotImportableError: there is none; says why without quoting the file.
    """
    try:
        raw = parse_object(data)
    except ValueError as error:
        # Not chained: the parser's error carries the whole document, tokens and all.
        raise NotImportableError(f"it is not a JSON object ({error})") from None
    kind = get_text(raw, "type")
    if kind not in (None, "codex"):
        raise NotImportableError("it is for another service than Codex")
    if why := why_no_tokens(raw):
        raise NotImportableError(why)
    layout = layout_of(raw)
    access = _token(raw, layout.access)
    refresh = _token(raw, layout.refresh)
    if access is not None and is_personal(access):
        # A refresh token beside it is of an earlier sign-in, perhaps of somebody else.
        raise NotImportableError("there is a personal access token, which does not say whose it is")
    if access is None or refresh is None:
        raise NotImportableError("there is no refresh token, so that it would soon run out")
    places = layout.workspace_ids(raw)
    expires_at_unix_s = None
    if is_managed(raw):
        inside = get_text(raw, "chatgpt_account_id")
        places = iter([("chatgpt_account_id", inside)] if inside else [])
        expires_at_unix_s = _expiry(raw, access)
    return read_signed_in(
        Credentials(
            access_token=access,
            refresh_token=refresh,
            id_token=_token(raw, layout.identity),
            expires_at_unix_s=expires_at_unix_s,
        ),
        scope=SCOPE,
        fresh=False,
        workspace_id=next((_sendable(field, text) for field, text in places), None),
        email=get_text(raw, "email") or None,
    )


def is_managed(raw: JsonObject) -> bool:
    """Tell whether this is an account file of this relay, or of another one of the same format."""
    return bool(get_text(raw, "access_token")) and any(key in raw for key in _MANAGED_KEYS)


def _expiry(raw: JsonObject, access_token: str) -> float | None:
    """Return when the token ends if only the file says so; None: the token does, or nobody."""
    at_ms = get_number(raw, "expiry_date")
    if at_ms is None or at_ms <= 0 or read_claims(access_token).expires_at_unix_s is not None:
        return None
    return at_ms / 1000


def _token(raw: JsonObject, name: str) -> str | None:
    layout = layout_of(raw)
    text = layout.token(raw, name)
    return _sendable(layout.field(name), text) if text else None


def _sendable(field: str, text: str) -> str:
    if not can_be_sent(text):
        raise NotImportableError(f"{field} must be printable ASCII without blanks and line breaks")
    return text


def _created(
    store: AccountStore, name: str, signed_in: SignedIn, now_unix_s: float
) -> Account | None:
    """Return the new account, None if the name was taken in the meantime."""
    try:
        return store.create(
            name,
            signed_in.credentials,
            workspace_id=signed_in.workspace_id,
            email=signed_in.email,
            scope=signed_in.scope,
            now_unix_s=now_unix_s,
        )
    except FileExistsError:
        if not store.folder.is_dir():  # no other name would help
            raise
        return None


def _renewed(
    store: AccountStore, account_id: str, signed_in: SignedIn, now_unix_s: float
) -> Account:
    try:
        return store.sign_in(
            account_id,
            signed_in.credentials,
            workspace_id=signed_in.workspace_id,
            email=signed_in.email,
            scope=signed_in.scope,
            now_unix_s=now_unix_s,
        )
    except BrokenFileError as error:
        raise BrokenAccountError(str(error)) from None


def _check_age(account: Account, signed_in: SignedIn) -> None:
    """Let no file bring back tokens from before a refresh: the refresh token in it is spent.

    Raises:
        OlderTokensError: it would.
    """
    if signed_in.fresh or account.needs_reauth is not None:
        return
    stored, offered = account.credentials, signed_in.credentials
    if stored.refresh_token is None or stored.expires_at_unix_s is None:
        return
    if (offered.expires_at_unix_s or 0.0) < stored.expires_at_unix_s:
        raise OlderTokensError(account.id)


def _is_same(account: Account, signed_in: SignedIn) -> bool:
    """Tell whether both are known to be one identity. Several users may share a workspace."""
    if account.workspace_id != signed_in.workspace_id:
        return False
    return _same_person(account, signed_in) is True


def _differs(account: Account, signed_in: SignedIn) -> bool:
    """Tell whether both are known to be two identities."""
    workspaces = {account.workspace_id, signed_in.workspace_id} - {None}
    return len(workspaces) == 2 or _same_person(account, signed_in) is False


def _same_person(account: Account, signed_in: SignedIn) -> bool | None:
    """Compare user ids, else e-mails; None where there is nothing to compare."""
    if account.user_id and signed_in.user_id:
        return account.user_id == signed_in.user_id
    if account.email and signed_in.email:
        return account.email.casefold() == signed_in.email.casefold()
    return None


def _in_words(email: str | None, workspace_id: str | None, user_id: str | None) -> str:
    return (
        f"{email or 'an unnamed e-mail'} (workspace {workspace_id or 'unknown'}, "
        f"user {user_id or 'unknown'})"
    )


def _base_name(signed_in: SignedIn) -> str:
    return _as_id((signed_in.email or "").partition("@")[0]) or _NAMELESS


def _names(base: str, signed_in: SignedIn) -> Iterator[str]:
    """Yield the names to try for a new account, without an end."""
    yield base
    workspace = (signed_in.workspace_id or "").replace("-", "")[:_SHORT_ID]
    for ending in (signed_in.plan_type, workspace):
        if cleaned := _as_id(ending or ""):
            yield _with_ending(base, cleaned)
    for number in itertools.count(2):
        yield _with_ending(base, str(number))


def _with_ending(base: str, ending: str) -> str:
    ending = ending[: _MOST_CHARACTERS // 2]
    return f"{base[: _MOST_CHARACTERS - len(ending) - 1]}-{ending}"


def _as_id(text: str) -> str:
    """Return `text` with only the characters of an id; empty if it has none of them."""
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "-", ascii_only.lower())
    return cleaned.strip("-_")[:_MOST_CHARACTERS]
