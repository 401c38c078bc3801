"""What the backend answers when it is asked for its models, and what several answers say together.

It is asked once for each plan: which models there are may depend on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import attrs

from codexrelay.protocol.raw import (
    JsonObject,
    get_list,
    get_number,
    get_text,
    is_object,
    parse_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: Model -> the plans that offer it; None: its entry names none.
Offers: TypeAlias = "Mapping[str, frozenset[str] | None]"


@attrs.frozen(kw_only=True)
class Listing:
    """The models that an account was told of. Its entries are to be read only."""

    #: Of the account; None: not known.
    plan: str | None
    models: tuple[JsonObject, ...] = attrs.field(repr=False)
    #: The backend's tag of the list, as it came.
    etag: str | None
    fetched_unix_s: float
    #: That was given in the question: models for later versions are left out.
    client_version: str


def models_in(body: bytes) -> tuple[JsonObject, ...]:
    """Return the entries of a catalogue in the backend's form, `{"models": [...]}`.

    Raises:
        LookupError: it is no such catalogue, or one without a model; the message says which.
    """
    try:
        entries = get_list(parse_object(body), "models")
    except ValueError as error:
        raise LookupError(f"it is no JSON object ({error})") from None
    models = tuple(entry for entry in entries if is_object(entry) and get_text(entry, "slug"))
    if not models:
        raise LookupError('it names no model under "models"')
    return models


def union(listings: Sequence[Listing]) -> list[JsonObject]:
    """Return every model once, by the newest listing that has it, in the catalogue's order."""
    by_age = sorted(listings, key=lambda listing: listing.fetched_unix_s, reverse=True)
    models: dict[str, JsonObject] = {}
    for listing in by_age:
        for model in listing.models:
            models.setdefault(get_text(model, "slug") or "", model)
    if len(by_age) < 2:
        return list(models.values())
    return sorted(models.values(), key=_priority)


def _priority(model: JsonObject) -> float:
    priority = get_number(model, "priority")
    return float("inf") if priority is None else priority


def offers_in(listings: Iterable[Listing]) -> dict[str, frozenset[str] | None]:
    """Return which plans offer each model (`available_in_plans`, wire notes 5)."""
    offers: dict[str, frozenset[str] | None] = {}
    for listing in listings:
        for model in listing.models:
            slug, plans = get_text(model, "slug") or "", plans_in(model)
            before = offers.setdefault(slug, plans)
            if before is not None and plans is not None:
                offers[slug] = before | plans
            elif before != plans:
                offers[slug] = None
    return offers


def plans_in(model: JsonObject) -> frozenset[str] | None:
    """Return the plans that a model's entry names; None: it names none."""
    plans = get_list(model, "available_in_plans")
    return frozenset(plan for plan in plans if isinstance(plan, str)) or None
