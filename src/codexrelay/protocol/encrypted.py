"""Encrypted items: reasoning and compactions that only the account which made them can read.

Another account answers them with `invalid_encrypted_content` (reported for relays that rotate). An
item is known again by a digest of its content, so that nobody has to keep the content.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from codexrelay.protocol.raw import Json, JsonObject, get_list, parse_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_KEY: Final = "encrypted_content"
_MARK: Final = b'"encrypted_content"'
_DIGEST_BYTES: Final = 12


def digest_of(item: Json) -> str | None:
    """Return the digest of an item's encrypted content, None if it has none."""
    content = item.get(_KEY) if isinstance(item, dict) else None
    if not isinstance(content, str):
        return None
    data = content.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()


def digests_in(done_events: Iterable[bytes]) -> Iterator[str]:
    """Yield the digests in the data of `response.output_item.done` events.

    Data that is no JSON has passed as it came, and is passed over here.
    """
    for data in done_events:
        if _MARK in data and (digest := digest_of(_item_in(data))) is not None:
            yield digest


def _item_in(done_event: bytes) -> Json:
    try:
        return parse_object(done_event).get("item")
    except ValueError:
        return None


def digests_of(body: JsonObject) -> Iterator[str]:
    """Yield the digests of the encrypted items of a request."""
    for item in get_list(body, "input"):
        # Most items are plain, and a history has hundreds of them.
        if isinstance(item, dict) and _KEY in item and (digest := digest_of(item)) is not None:
            yield digest


def owner_of(body: JsonObject, owners: Mapping[str, str]) -> str | None:
    """Return the account that made the latest encrypted item of a request, as far as known."""
    if not owners:
        return None
    for item in reversed(get_list(body, "input")):
        digest = digest_of(item)
        if digest is not None and digest in owners:
            return owners[digest]
    return None


def readable_by(account_id: str, body: JsonObject, owners: Mapping[str, str]) -> JsonObject:
    """Return the request without the reasoning that another account made.

    The same object comes back if there is none. Of a compaction nothing is dropped: it stands for
    the history. Content of unknown origin stays too.
    """
    if not owners:
        return body

    def is_foreign(item: Json) -> bool:
        digest = digest_of(item)
        return digest is not None and owners.get(digest, account_id) != account_id

    return _without_reasoning(body, is_foreign)


def of_no_account(body: JsonObject, owners: Mapping[str, str]) -> JsonObject:
    """Return the request without the reasoning that an account made, for a backend without any.

    The same object comes back if there is none. Compactions and content of unknown origin stay, as
    in `readable_by`.
    """
    return _without_reasoning(body, lambda item: digest_of(item) in owners)


def without_reasoning(body: JsonObject) -> JsonObject:
    """Return the request without any encrypted reasoning; the same object if there is none."""
    return _without_reasoning(body, lambda item: digest_of(item) is not None)


def _without_reasoning(body: JsonObject, is_meant: Callable[[Json], bool]) -> JsonObject:
    items = get_list(body, "input")
    kept = [
        item
        for item in items
        if not (isinstance(item, dict) and item.get("type") == "reasoning" and is_meant(item))
    ]
    return body if len(kept) == len(items) else {**body, "input": kept}
