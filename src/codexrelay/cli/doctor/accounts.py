"""Every account: can the relay use it, and for how long?"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from codexrelay.accounts.account import Status
from codexrelay.accounts.files import why_open_to_others
from codexrelay.accounts.legacy import LegacyStore
from codexrelay.accounts.sent_mark import SentMark
from codexrelay.accounts.standing import NO_REFRESH_TOKEN_REASON
from codexrelay.cli.accounts.words import from_now, named
from codexrelay.cli.doctor.finding import Level, broken, ok, warn
from codexrelay.errors import MAX_NAMED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.accounts.account import Account
    from codexrelay.cli.accounts.instance import Entry
    from codexrelay.cli.doctor.finding import Finding
    from codexrelay.cli.doctor.site import Block, Site
    from codexrelay.errors import Problem


def check(site: Site) -> Iterator[Finding]:
    """Look at the accounts of each block."""
    for block in site.blocks:
        yield from _block(site, block)
    yield from _twins(site)


def _block(site: Site, block: Block) -> Iterator[Finding]:
    instance, stock = block.instance, block.stock
    add = site.adding(block)
    for entry in stock.entries:
        yield from _entry(site, block, entry)
    for name, problem in stock.broken:
        remove = site.command(f"remove {name}", instance)
        yield broken(
            f"{block.about}account {name}", str(problem), f"mend the file, or {remove}; then {add}"
        )
    of_auth_json = LegacyStore(instance.legacy_folders).load().problems
    for problem in stock.problems:
        if not (_is_mode(problem) or _is_unlisted(problem, block) or problem in of_auth_json):
            yield warn(f"{block.about}accounts", str(problem), _mend(problem, block))
    if any(entry.unused is None for entry in stock.entries):
        return
    if any(_is_unlisted(problem, block) for problem in stock.problems):
        return  # nobody knows whether there are some, and the store's finding says so
    if stock.entries or stock.broken:
        mend = _mend_unused(site, block)
        yield broken(f"{block.about}accounts", "there is none that may be used", mend)
    elif not block.falls_back:  # else it is told what is wrong with Codex CLI's sign-in
        yield broken(f"{block.about}accounts", f"there is none: {stock.source}", add)


def _is_mode(problem: Problem) -> bool:
    """Tell whether others may read a file or folder, which is a finding of the store's own."""
    return problem.what == why_open_to_others(Path(problem.where))


def _is_unlisted(problem: Problem, block: Block) -> bool:
    """Tell whether the store cannot be listed, which is a finding of the store's own."""
    return problem.where == str(block.instance.store.folder) and not _is_mode(problem)


def _mend(problem: Problem, block: Block) -> str:
    if problem.where.startswith("managed_oauth.accounts"):
        return f"{block.managed_key}.accounts: {_ids_of(block)}"
    return "correct the file, or delete it"


def _mend_unused(site: Site, block: Block) -> str:
    """Return what lets accounts be used that are there, else what adds one."""
    if not block.stock.entries:
        return site.adding(block)
    if not block.instance.managed.enabled and block.stock.origin != "legacy":
        return f"{block.managed_key}.enabled: true"
    return f"{block.managed_key}.accounts: {_ids_of(block)}"


def _ids_of(block: Block) -> str:
    """Return what the list of allowed accounts can be: all, or some of those that there are."""
    ids = ", ".join(account.id for account in block.stock.accounts[:MAX_NAMED])
    return f"all, or some of [{ids}]" if ids else "all"


def _twins(site: Site) -> Iterator[Finding]:
    """Find accounts in different files, of any block, that hold one refresh token."""
    first: dict[bytes, tuple[str, str]] = {}
    for block in site.blocks:
        for entry in block.stock.entries:
            account, token = entry.account, entry.account.credentials.refresh_token
            if account.origin != "managed" or entry.unused is not None or token is None:
                continue
            # A link to the same file shares its locks as well, and is fine.
            path = os.path.realpath(block.instance.store.folder / f"{account.id}.json")
            about = f"{block.about}account {account.id}"
            digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
            other, other_path = first.setdefault(digest, (about, path))
            if path != other_path:
                yield warn(
                    about,
                    f"has the same refresh token as {other}: it is good for one refresh, and "
                    "whichever comes second is signed out",
                    site.command(f"update {account.id}", block.instance),
                )


def _entry(site: Site, block: Block, entry: Entry) -> Iterator[Finding]:
    account, instance = entry.account, block.instance
    about = f"{block.about}account {named(account)}"
    if entry.unused is not None:
        yield ok(about, f"not used: {entry.unused}")
        return
    again = site.command(f"update {account.id}", instance)
    if account.origin == "legacy":
        again = "codex login"
    found = _finding(
        account,
        about=about,
        sign_in=again,
        clear=site.command(f"clear {account.id}", instance),
        add=site.adding(block),
        now_unix_s=site.now_unix_s,
    )
    yield found
    if account.attention is not None and found.level is not Level.BROKEN:
        told = f"{account.attention.message} ({account.attention.code})"
        since = from_now(account.attention.since_unix_s, now_unix_s=site.now_unix_s)
        mended = site.command(f"clear-reauth {account.id}", instance)
        yield warn(about, f"turned away {since}: {told}", f"once that is mended: {mended}")
    token = account.credentials.refresh_token
    lock = instance.token_files[account.origin].flight_lock(account.id)
    if token is not None and lock.paths and SentMark.beside(lock).is_of(token):
        yield warn(
            about,
            "its refresh token was sent and no answer is stored: it may be spent. The relay asks "
            "again only when the access token has run out",
            f"if turns are refused: {again}",
        )


def _finding(
    account: Account, *, about: str, sign_in: str, clear: str, add: str, now_unix_s: float
) -> Finding:
    """Say how an account stands.

    Args:
        account: which.
        about: what a finding calls it.
        sign_in: the command that signs it in anew.
        clear: the command that ends its cool-down.
        add: what adds another account.
        now_unix_s: wall clock.
    """
    tokens = account.credentials
    until = tokens.expires_at_unix_s
    runs_out = "" if until is None else from_now(until, now_unix_s=now_unix_s)
    match account.status(now_unix_s=now_unix_s):
        case Status.NEEDS_REAUTH:
            return broken(about, f"must sign in again ({account.needs_reauth})", sign_in)
        case Status.RATE_LIMITED:
            free = from_now(account.rate_limited_until_unix_s or 0.0, now_unix_s=now_unix_s)
            mend = f"wait, or if you know better: {clear}"
            if account.origin == "legacy":
                mend = f"wait, or: {add}"
            return warn(about, f"its quota is spent; it is free again {free}", mend)
        case Status.EXPIRED if tokens.refresh_token is None:
            return broken(
                about, f"its token ran out {runs_out}, and {NO_REFRESH_TOKEN_REASON}", sign_in
            )
        case Status.EXPIRED:
            return ok(about, f"its token ran out {runs_out}; the next turn renews it")
        case Status.VALID if tokens.refresh_token is None and until is not None:
            return warn(
                about,
                f"its token runs out {runs_out}, and {NO_REFRESH_TOKEN_REASON}",
                sign_in,
            )
        case Status.VALID:
            return ok(about, f"valid; its token runs out {runs_out}" if runs_out else "valid")
