"""One call to the issuer, answered or told why not."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay.accounts.login.errors import LoginError
from codexrelay.accounts.login.words import plain
from codexrelay.accounts.wire import exchange, post, words
from codexrelay.protocol.raw import JsonObject, dump, get_object, get_text, parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping

#: One call may take this long; a person is waiting.
CALL_S: Final = 30.0


@attrs.frozen(kw_only=True)
class Reply:
    """What the issuer has answered. May hold tokens."""

    status: int
    #: Empty if the body was no JSON object.
    body: JsonObject = attrs.field(repr=False)

    @property
    def is_success(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        """The refusal's code, which stands in one of three places (wire notes 1.2), or nothing."""
        error = get_object(self.body, "error")
        named = (get_text(error, "code"), get_text(self.body, "error"), get_text(self.body, "code"))
        return plain(next((name for name in named if name), ""))

    def words(self, *, secrets: tuple[str, ...]) -> str:
        """Return the issuer's own words for a person, or nothing; none that repeat a secret."""
        error = get_object(self.body, "error")
        said = get_text(error, "message") or get_text(self.body, "error_description")
        return plain(said or "", secrets=secrets)


async def post_form(
    transport: httpx.AsyncBaseTransport, url: str, fields: Mapping[str, str]
) -> Reply | LoginError:
    """Post a form; see `_post`."""
    body = urllib.parse.urlencode(fields).encode("ascii")
    return await _post(transport, url, body, "application/x-www-form-urlencoded")


async def post_json(
    transport: httpx.AsyncBaseTransport, url: str, value: JsonObject
) -> Reply | LoginError:
    """Post JSON; see `_post`."""
    return await _post(transport, url, dump(value), "application/json")


async def _post(
    transport: httpx.AsyncBaseTransport, url: str, body: bytes, content_type: str
) -> Reply | LoginError:
    """Return the answer within `CALL_S`, or why there is none. The error is a value, not raised."""
    request = post(url, body, content_type=content_type)
    with trio.move_on_after(CALL_S):
        try:
            answer = await exchange(transport, request)
            return Reply(status=answer.status, body=_object_in(answer.body))
        except httpx.RequestError as error:
            return LoginError(
                f"the sign-in service at {_origin(request.url)} cannot be reached: {words(error)}. "
                "Look at the network, and at the proxy if there is one (the backend's key `proxy`, "
                "else `HTTPS_PROXY`), then run the command again"
            )
    return LoginError(
        f"the sign-in service at {_origin(request.url)} has not answered within {CALL_S:.0f} s. "
        "Run the command again"
    )


def _object_in(body: bytes) -> JsonObject:
    try:
        return parse_object(body)
    except ValueError:
        return {}


def _origin(url: httpx.URL) -> str:
    """Return scheme, host and port: an address in an error names no user and no query."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"
