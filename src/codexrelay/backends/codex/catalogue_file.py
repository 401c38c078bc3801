"""Lists of models on the disk: the backend's last ones, and one of the owner's.

The backend's are kept in `models.json` in the folder of the relay's state, so that a relay without
a network knows them too. They hold no secret, but what an owner has paid for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.accounts.files import broken, make_folder, read_bytes, replace_file
from codexrelay.backends.codex.listing import Listing, models_in
from codexrelay.protocol.raw import (
    JsonObject,
    dump,
    get_list,
    get_number,
    get_text,
    is_object,
    parse_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

_FILE: Final = "models.json"
_FORMAT: Final = 1


def read_list(path: Path) -> list[JsonObject]:
    """Return the owner's own list, in the backend's form. Blocks.

    Raises:
        BrokenFileError: there is none, or it is no list of models.
    """
    data = read_bytes(path)
    if data is None:
        raise broken(path, "file", "does not exist")
    try:
        return list(models_in(data))
    except LookupError as error:
        raise broken(path, "file", f"is no list of models: {error}") from None


@attrs.frozen
class CatalogueFile:
    """The backend's lists, kept in a folder. Its methods block."""

    folder: Path
    #: The base URLs of the backends, of whose lists alone this one knows.
    backends: Sequence[str]

    @property
    def path(self) -> Path:
        """Where the lists are."""
        return self.folder / _FILE

    def load(self) -> list[Listing]:
        """Return what was kept; nothing if there is no file, or if it is of other backends.

        Raises:
            BrokenFileError: the file cannot be used.
        """
        data = read_bytes(self.path)
        if data is None:
            return []
        try:
            kept = parse_object(data)
        except ValueError as error:
            raise broken(self.path, "file", f"is no JSON object ({error})") from None
        if get_number(kept, "version") != _FORMAT:
            raise broken(self.path, "version", f"must be {_FORMAT}")
        if get_text(kept, "backends") != self._whose:
            return []
        return [self._listing(entry) for entry in get_list(kept, "lists")]

    def save(self, listings: Iterable[Listing]) -> None:
        """Replace what is kept.

        Raises:
            OSError: it cannot be written.
        """
        make_folder(self.folder)
        kept: JsonObject = {
            "version": _FORMAT,
            "backends": self._whose,
            "lists": [
                {
                    "plan": listing.plan,
                    "etag": listing.etag,
                    "fetched_at": listing.fetched_unix_s,
                    "client_version": listing.client_version,
                    "models": list(listing.models),
                }
                for listing in listings
            ],
        }
        replace_file(self.path, dump(kept))

    @property
    def _whose(self) -> str:
        # Not the addresses themselves: they may hold a password.
        return hashlib.sha256("\n".join(sorted(set(self.backends))).encode()).hexdigest()

    def _listing(self, entry: object) -> Listing:
        if not isinstance(entry, dict):
            raise broken(self.path, "lists", "must hold objects")
        fetched = get_number(entry, "fetched_at")
        models = tuple(m for m in get_list(entry, "models") if is_object(m) and get_text(m, "slug"))
        if fetched is None or not models:
            raise broken(self.path, "lists", "must hold `fetched_at` and `models`")
        return Listing(
            plan=get_text(entry, "plan"),
            models=models,
            etag=get_text(entry, "etag"),
            fetched_unix_s=fetched,
            client_version=get_text(entry, "client_version") or "",
        )
