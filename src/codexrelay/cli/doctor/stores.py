"""The folders of the account files: theirs and their files' modes, and whether they can be used."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

from codexrelay.accounts.files import why_open_to_others
from codexrelay.cli.doctor.finding import Level, broken, ok, warn
from codexrelay.cli.doctor.folders import look_at, own_uid, why_no_locks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from codexrelay.cli.doctor.finding import Finding
    from codexrelay.cli.doctor.site import Block, Site

#: Files that may hold tokens, or the place of some.
_SECRET: Final = (".json", ".tmp", ".sent")


def check(site: Site) -> Iterator[Finding]:
    """Look at the store of each block."""
    for block in site.managed():
        yield from _store(block)


def _store(block: Block) -> Iterator[Finding]:
    folder, about = block.instance.store.folder, f"{block.about}store"
    key = f"{block.managed_key}.storage_path"
    found = tuple(look_at(folder, about, key=key, uid=own_uid()))
    if not os.path.lexists(folder):
        made = ok(about, f"{folder} is not there yet; `codexrelay accounts add` makes it")
        yield from found or (made,)
        return
    if _is_usable(found):  # else it is told what is wrong with the folder
        found += tuple(_open_files(folder, about))
    if _is_usable(found) and (why := why_no_locks(folder)):
        found += (
            broken(
                about,
                f"{folder}: {why}, so two relays may spend one refresh token",
                f"{key}: FOLDER, one on a local disk",
            ),
        )
    yield from found or (ok(about, f"{folder} can be read and written by you alone"),)


def _is_usable(found: Iterable[Finding]) -> bool:
    return not any(one.level is Level.BROKEN for one in found)


def _open_files(folder: Path, about: str) -> Iterator[Finding]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(_SECRET))
    except OSError as error:
        told = f"{folder} cannot be listed ({error.strerror})"
        yield broken(about, told, f"chmod u+rwx {shlex.quote(str(folder))}")
        return
    for name in names:
        if why := why_open_to_others(folder / name):
            told, _, mend = why.partition(": ")
            yield warn(about, f"{folder / name} {told}", mend)
