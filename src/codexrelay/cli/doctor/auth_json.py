"""Codex CLI's `auth.json`: the sign-in that the relay falls back to, and who else uses it."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

from codexrelay.accounts.files import BrokenFileError, Locks, why_open_to_others
from codexrelay.accounts.layouts import layout_of
from codexrelay.accounts.legacy import LEGACY_ID, LegacyStore
from codexrelay.accounts.record import read_iso
from codexrelay.cli.accounts.words import from_now
from codexrelay.cli.doctor.finding import broken, ok, warn
from codexrelay.protocol.raw import get_text, parse_object

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from codexrelay.cli.doctor.finding import Finding
    from codexrelay.cli.doctor.site import Block, Site

_SIGN_IN: Final = "codex login"


def check(site: Site) -> Iterator[Finding]:
    """Look at the file of each block: where it would be used, and where its tokens are shared."""
    for block in site.blocks:
        if block.falls_back:
            yield from _in_use(site, block)
        yield from _shared(site, block)


def _in_use(site: Site, block: Block) -> Iterator[Finding]:
    about, path = f"{block.about}auth.json", block.instance.legacy_file()
    add = site.adding(block)
    if hidden := tuple(_hidden(block)):
        yield from hidden
        return
    if path is None:
        tried = " or ".join(str(folder / "auth.json") for folder in block.instance.legacy_folders)
        yield broken(
            about,
            "without accounts of its own the relay uses Codex CLI's sign-in, and there is no "
            f"{tried or 'home folder'}",
            f"{add} (or {_SIGN_IN})"
            if block.instance.managed.enabled
            else f"{_SIGN_IN} (or {add})",
        )
        return
    if why := why_open_to_others(path):
        told, _, mend = why.partition(": ")
        yield warn(about, f"{path} {told}", mend)
    try:
        LegacyStore(block.instance.legacy_folders).read(LEGACY_ID)
    except BrokenFileError as error:
        yield broken(about, str(error), f"{_SIGN_IN} (or {add})")
        return
    refreshed = _last_refresh(path, now_unix_s=site.now_unix_s)
    if busy := _held_locks(block):
        yield warn(
            about,
            f"another program refreshes {path} at this moment (it holds {busy.name})",
            f"wait, or give the relay an account of its own: {add}",
        )
        return
    yield ok(
        about,
        f"{path} is used{refreshed}; Codex CLI uses it too, and the relay minds its lock files. "
        "It is one account, which cannot be rotated",
    )


def _hidden(block: Block) -> Iterator[Finding]:
    """Find the file that would count, where it cannot be told whether it is there."""
    for folder in block.instance.legacy_folders:
        path = folder / "auth.json"
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue  # the next one may have it
        except OSError as error:
            told = f"{path} cannot be looked at ({error.strerror})"
            yield broken(f"{block.about}auth.json", told, f"chmod u+rx {shlex.quote(str(folder))}")
        return


def _last_refresh(path: Path, *, now_unix_s: float) -> str:
    """Return when its tokens were renewed, by whichever program, as the end of `is used`."""
    try:
        raw = parse_object(path.read_bytes())
    except (OSError, ValueError):  # gone or rewritten meanwhile
        return ""
    text = get_text(raw, layout_of(raw).refreshed)
    at = None if text is None else read_iso(text)
    return "" if at is None else f", renewed last {from_now(at, now_unix_s=now_unix_s)}"


def _held_locks(block: Block) -> Path | None:
    """Return a lock file of Codex CLI's that some program holds at the moment; makes none."""
    locks = LegacyStore(block.instance.legacy_folders).flight_lock(LEGACY_ID)
    for path in locks.paths:
        if not os.path.exists(path):
            continue
        one = Locks((path,))
        try:
            if not one.try_acquire():
                return path
        except OSError:
            continue  # not ours to open
        one.release()
    return None


def _shared(site: Site, block: Block) -> Iterator[Finding]:
    """Find accounts of the relay's that hold the very tokens of Codex CLI."""
    legacy = LegacyStore(block.instance.legacy_folders).load().accounts
    theirs = {account.credentials.refresh_token for account in legacy} - {None}
    for entry in block.stock.entries:
        account = entry.account
        if account.origin == "managed" and account.credentials.refresh_token in theirs:
            yield warn(
                f"{block.about}account {account.id}",
                f"has the same refresh token as {block.instance.legacy_file()}: it is good for one "
                "refresh, and whichever program comes second is signed out",
                site.command(f"update {account.id}", block.instance),
            )
