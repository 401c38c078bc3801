"""Where other programs keep the tokens of a sign-in: Codex CLI, and relays that copy its file.

Source: wire notes 1.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.raw import get_object, get_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from codexrelay.protocol.raw import JsonObject


#: A token that is good until it is withdrawn and cannot be refreshed (wire notes 1.7).
_PERSONAL: Final = "at-"


def is_personal(access_token: str) -> bool:
    """Tell whether this is a personal access token, which nothing refreshes."""
    return access_token.startswith(_PERSONAL)


@attrs.frozen(kw_only=True)
class Layout:
    """The names under which one program writes its tokens."""

    #: In the object `tokens`, or beside it.
    nested: bool
    access: str = "access_token"
    refresh: str = "refresh_token"
    identity: str = "id_token"
    workspace: str = "account_id"
    refreshed: str = "last_refresh"

    def tokens(self, raw: JsonObject) -> JsonObject:
        """Return the object in `raw` that holds the tokens."""
        return get_object(raw, "tokens") if self.nested else raw

    def token(self, raw: JsonObject, name: str) -> str | None:
        """Return the token of this name as it stands there."""
        return get_text(self.tokens(raw), name)

    def workspace_ids(self, raw: JsonObject) -> Iterator[tuple[str, str]]:
        """Yield field and text of each workspace id there is, the one that counts first."""
        places = (
            (self.field(self.workspace), self.tokens(raw), self.workspace),
            ("account_id", raw, "account_id"),
            ("user.account_id", get_object(raw, "user"), "account_id"),
        )
        for field, inside, name in places:
            if found := get_text(inside, name):
                yield field, found

    def field(self, name: str) -> str:
        """Return the path of a token's field, for messages."""
        return f"tokens.{name}" if self.nested else name


#: Codex CLI; then codex-lb; then CLIProxyAPI.
LAYOUTS: Final = (
    Layout(nested=True),
    Layout(
        nested=True,
        access="accessToken",
        refresh="refreshToken",
        identity="idToken",
        workspace="accountId",
        refreshed="lastRefreshAt",
    ),
    Layout(nested=False),
)


#: Values of `auth_mode` under which Codex CLI uses no tokens of a ChatGPT sign-in, even if old ones
#: lie beside, and what the file holds instead. Other values, those of tomorrow too, are judged by
#: whether there are tokens.
_OTHER_MODES: Final[Mapping[str | None, str]] = {
    "agentIdentity": "there is an agent identity, whose private key signs in the place of tokens",
    "personalAccessToken": "there is a personal access token, which does not name its workspace",
    "bedrockApiKey": "there is a sign-in for Amazon Bedrock, not for ChatGPT",
    "bedrockAccessKeys": "there is a sign-in for Amazon Bedrock, not for ChatGPT",
}


def layout_of(raw: JsonObject) -> Layout:
    """Return the first layout that has an access token, Codex CLI's if none has."""
    held = (layout for layout in LAYOUTS if layout.token(raw, layout.access))
    return next(held, LAYOUTS[0])


def why_no_tokens(raw: JsonObject) -> str | None:
    """Return why the file holds no tokens that the relay can use, None if it does."""
    mode = get_text(raw, "auth_mode") or None
    layout = layout_of(raw)
    held = layout.token(raw, layout.access)
    if mode in _OTHER_MODES:
        return _OTHER_MODES[mode]
    if mode == "apikey" or (mode is None and not held and get_text(raw, "OPENAI_API_KEY")):
        return "there is an API key only, which the Codex backend does not take"
    if held:
        return None
    if mode not in (None, "chatgpt"):
        return "this kind of sign-in keeps no tokens here that the relay can use"
    return "there is no access token"
