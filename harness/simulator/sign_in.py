"""How an account comes to its first tokens: codes of the sign-in page, and of devices.

Nobody types a password here: the page lets in whom `login_hint` names, or the first account, and a
device code waits until somebody approves it. What is asked of the client is asked as strictly as
the wire notes (1.1, 1.4) know it: a registered address to come back to, PKCE, and a code is good
once.
"""

from __future__ import annotations

import base64
import hashlib
import urllib.parse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.openai_errors import error_object
from codexrelay.protocol.raw import JsonObject, get_text
from harness.simulator.accounts import CLIENT_ID, SimulatedAccount
from harness.simulator.arrival import RefusedError
from harness.simulator.ids import Ids
from harness.simulator.steps import reply, reply_bytes

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json
    from harness.simulator.arrival import HttpRequest
    from harness.simulator.steps import Answer

_CODE_LIFE_S: Final = 600.0
_DEVICE_CODE_LIFE_S: Final = 900.0
#: The real issuer knows port 1455 only; tests listen wherever there is room.
_REDIRECT_HOSTS: Final = frozenset({"localhost", "127.0.0.1"})
_REDIRECT_PATH: Final = "/auth/callback"
_DEVICE_REDIRECT_PATH: Final = "/deviceauth/callback"


@attrs.frozen(repr=False)
class _Code:
    """A code that was handed out and not used yet."""

    account: SimulatedAccount
    challenge: str
    #: Where the browser was sent; None: the code was a device's.
    redirect_uri: str | None
    expires_unix_s: float


@attrs.define(eq=False, repr=False)
class _Device:
    """A device that waits for its owner."""

    user_code: str
    expires_unix_s: float
    #: What it is told when it asks next; None while nobody has approved it.
    approved: JsonObject | None = None


@attrs.define(eq=False, repr=False)
class SignIns:
    """The sign-ins that have begun and not ended."""

    _ids: Ids
    #: Whether devices may sign in at all; a workspace can forbid it.
    device_codes: bool = attrs.field(default=True, init=False)
    #: Seconds that a device is told to wait between two questions.
    interval_s: float = attrs.field(default=5, init=False)
    _codes: dict[str, _Code] = attrs.field(factory=dict, init=False)
    #: By `device_auth_id`, in the order in which they came.
    _devices: dict[str, _Device] = attrs.field(factory=dict, init=False)

    def authorize(
        self, http: HttpRequest, account: SimulatedAccount, *, now_unix_s: float
    ) -> Answer:
        """Answer `GET /oauth/authorize`: the browser goes back with a code for `account`.

        Raises:
            RefusedError: the client asks for something else than it may.
        """
        redirect_uri, challenge = http.query("redirect_uri") or "", http.query("code_challenge")
        for wrong, told in (
            (http.query("client_id") != CLIENT_ID, "invalid_client"),
            (not _is_registered(redirect_uri), "invalid_redirect_uri"),
            (http.query("response_type") != "code", "unsupported_response_type"),
            (http.query("code_challenge_method") != "S256" or not challenge, "invalid_request"),
            (not http.query("state"), "invalid_request"),
        ):
            if wrong:
                raise RefusedError(400, {"error": told})
        code = self._new_code(
            account, challenge or "", redirect_uri=redirect_uri, now_unix_s=now_unix_s
        )
        query = {"code": code, "scope": http.query("scope"), "state": http.query("state")}
        back = urllib.parse.urlencode({key: value for key, value in query.items() if value})
        return reply_bytes(
            302, b"", content_type="text/plain", headers=(("location", f"{redirect_uri}?{back}"),)
        )

    def redeem(self, form: JsonObject, *, now_unix_s: float) -> SimulatedAccount:
        """Take the code in a token request, and return whose it is. Wrong or not, it is spent.

        Raises:
            RefusedError: there is no such code, or the client is not the one it was made for.
        """
        code = self._codes.pop(get_text(form, "code") or "", None)
        if code is None or code.expires_unix_s <= now_unix_s:
            raise _invalid_grant("Unknown, used or expired code.")
        if not _is_meant(get_text(form, "redirect_uri") or "", code):
            raise _invalid_grant("The redirect_uri is not the one the code was made for.")
        if _challenge(get_text(form, "code_verifier") or "") != code.challenge:
            raise _invalid_grant("The code_verifier does not fit the code_challenge.")
        return code.account

    def user_code(self, form: Json, *, now_unix_s: float) -> Answer:
        """Answer the wish of a device for a code that its owner can type.

        Raises:
            RefusedError: devices may not sign in, or this is not the client that may.
        """
        if not self.device_codes:
            raise RefusedError(404, {"detail": "Not Found"})
        if _text(form, "client_id") != CLIENT_ID:
            raise RefusedError(401, {"error": "invalid_client"})
        device_auth_id = f"deviceauth_{self._ids.text(32)}"
        typed = self._ids.text(9).upper()
        device = _Device(f"{typed[:4]}-{typed[4:]}", now_unix_s + _DEVICE_CODE_LIFE_S)
        self._devices[device_auth_id] = device
        return reply(
            200,
            {
                "device_auth_id": device_auth_id,
                "user_code": device.user_code,
                "interval": f"{self.interval_s:g}",
                "expires_at": datetime.fromtimestamp(device.expires_unix_s, UTC).isoformat(),
            },
        )

    def approve(
        self, account: SimulatedAccount, user_code: str | None = None, *, now_unix_s: float
    ) -> None:
        """Let the device with this code, or the one that came last, sign in to `account`.

        Raises:
            ValueError: no such device waits.
        """
        for device in reversed(self._devices.values()):
            if device.approved is None and user_code in (None, device.user_code):
                verifier = self._ids.text(64)
                challenge = _challenge(verifier)
                device.approved = {
                    "authorization_code": self._new_code(
                        account, challenge, redirect_uri=None, now_unix_s=now_unix_s
                    ),
                    "code_challenge": challenge,
                    "code_verifier": verifier,
                }
                return
        raise ValueError("no device waits" + (f" with the code {user_code!r}" if user_code else ""))

    def device_token(self, form: Json, *, now_unix_s: float) -> Answer:
        """Answer a device that asks whether its owner has typed the code.

        Raises:
            RefusedError: not yet, or there is no such device (any more).
        """
        device_auth_id = _text(form, "device_auth_id") or ""
        device = self._devices.get(device_auth_id)
        if device is None or device.user_code != _text(form, "user_code"):
            raise RefusedError(400, {"error": "invalid_request"})
        if device.expires_unix_s <= now_unix_s:
            raise RefusedError(400, {"error": "expired_token"})
        if device.approved is None:
            waits = error_object(
                "The code has not been entered yet.",
                type="invalid_request_error",
                code="authorization_pending",
            )
            raise RefusedError(403, {"error": waits})
        del self._devices[device_auth_id]
        return reply(200, device.approved)

    def _new_code(
        self,
        account: SimulatedAccount,
        challenge: str,
        *,
        redirect_uri: str | None,
        now_unix_s: float,
    ) -> str:
        code = f"ac_{self._ids.text(40)}"
        self._codes[code] = _Code(account, challenge, redirect_uri, now_unix_s + _CODE_LIFE_S)
        return code


def _is_registered(redirect_uri: str) -> bool:
    try:
        url = urllib.parse.urlsplit(redirect_uri)
    except ValueError:
        return False
    return (
        url.scheme == "http"
        and url.hostname in _REDIRECT_HOSTS
        and url.path == _REDIRECT_PATH
        and not (url.query or url.fragment or url.username)
    )


def _is_meant(redirect_uri: str, code: _Code) -> bool:
    if code.redirect_uri is not None:
        return redirect_uri == code.redirect_uri
    # The issuer's own page, at whatever address the issuer has.
    return urllib.parse.urlsplit(redirect_uri).path == _DEVICE_REDIRECT_PATH


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _text(form: Json, key: str) -> str | None:
    return get_text(form, key) if isinstance(form, dict) else None


def _invalid_grant(told: str) -> RefusedError:
    return RefusedError(400, {"error": "invalid_grant", "error_description": told})
