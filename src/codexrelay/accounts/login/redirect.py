"""What the issuer has sent the browser back with, as the listener gets it or a person pastes it."""

from __future__ import annotations

import hmac
import re
import urllib.parse
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from codexrelay.accounts.login.words import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A code alone, without its address. Shorter words are what people type when they mean something
#: else.
_BARE_CODE: Final = re.compile(r"[A-Za-z0-9._~-]{12,4096}")


@attrs.frozen
class Code:
    """The owner has signed in; good for one exchange."""

    value: str = attrs.field(repr=False)


@attrs.frozen
class Denied:
    """The issuer says that there will be no code."""

    #: Its own words, fit to be shown.
    why: str


@attrs.frozen
class NotOurs:
    """Not the answer to this sign-in; the right one may still come."""

    #: What is wrong with it, for the person who pasted it.
    why: str


Redirect: TypeAlias = Code | Denied | NotOurs


def read_redirect(query: str, *, state: str) -> Redirect:
    """Return what the query of the redirect address says. Without the right state: nothing."""
    fields = urllib.parse.parse_qs(query)
    given = _first(fields, "state").encode(errors="backslashreplace")
    if not hmac.compare_digest(given, state.encode()):
        return NotOurs("it belongs to another sign-in: its `state` is not the one of this address")
    if error := _first(fields, "error"):
        told = plain(_first(fields, "error_description"))
        return Denied(f"{plain(error)}: {told}" if told else plain(error))
    if code := _first(fields, "code"):
        return Code(code)
    return NotOurs("there is no `code` in it")


def read_pasted(text: str, *, state: str) -> Redirect:
    """Return what a person has pasted: the address the browser ended at, or the code alone.

    A code alone comes without a state; that a person has brought it here must do.
    """
    text = text.strip().strip("\"'<>")
    if "code=" in text or "state=" in text:
        query = text.partition("?")[2] or text
        return read_redirect(query.partition("#")[0], state=state)
    if _BARE_CODE.fullmatch(text):
        return Code(text)
    return NotOurs("it is neither an address with a code in it nor a code")


def _first(fields: Mapping[str, list[str]], name: str) -> str:
    return fields.get(name, [""])[0]
