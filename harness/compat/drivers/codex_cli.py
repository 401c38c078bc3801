"""Codex CLI. Everything here was measured with 0.169.0.

With a custom provider it sends plain JSON over HTTP, or speaks WebSocket if it is told that the
provider does. With a ChatGPT login and only `openai_base_url` changed it asks for the model list,
tries a WebSocket, falls back to HTTP when that is answered 426, and then compresses its bodies with
zstd.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final

from harness.compat.drivers.driver import Driver, NpmProgram, Order, Variant, with_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROGRAM: Final = "codex"
LOGIN: Final = "codex-login"
#: The account of the made-up login. Like its tokens it must never reach the backend.
CLIENT_ACCOUNT_ID: Final = "00000000-0000-4000-8000-0000000c11e7"

#: Where nothing listens. Another origin than the relay's on purpose: were they the same, Codex
#: would want https of both.
_NOWHERE: Final = "https://127.0.0.1:1"
_YEAR_2100_UNIX_S: Final = 4_102_444_800

#: What a run wants besides. Arguments beat the file.
_OF_A_RUN: Final = (
    'approval_policy="never"',
    # Its own sandbox needs kernel features that containers often lack.
    'sandbox_mode="danger-full-access"',
    "check_for_update_on_startup=false",
    "analytics.enabled=false",
    "feedback.enabled=false",
    "features.apps=false",
    "features.plugins=false",
    "features.remote_plugin=false",
)
#: It compacts its history when it is larger: after two print-outs of the notes, before the third.
#: What it says of itself and its tools in each request is smaller by 4,000 tokens; at less than
#: that it would never end.
_SMALL_TOKENS: Final = {"codex-lite": 16_000, LOGIN: 9_000}
_ITS_SMALL_TOKENS: Final = 13_500
#: For somebody who keeps his ChatGPT login: no block is printed for it, and the built-in provider
#: takes no headers. What he asks of the relay stands in the model's name.
_KEEPS_LOGIN: Final = """\
model = "{model}"
openai_base_url = "{url}"
chatgpt_base_url = "{nowhere}/backend-api/"
"""


#: A line of the printed block, which rows over plain HTTP go without.
_SPEAKS_WEBSOCKET: Final = "supports_websockets = true\n"


class CodexCli:
    """`codex exec`: the answer on stdout, the conversation on stderr."""

    name: str = PROGRAM
    program: NpmProgram = NpmProgram(
        package="@openai/codex",
        version="0.169.0",
        paths=("@openai/codex-{platform}/vendor/*/bin/codex",),
    )
    variants: tuple[Variant, ...] = (
        Variant(name=PROGRAM, protocol="responses", model="gpt-5.5", shows_thoughts=True),
        # The newer request shape: no `tools`, but an input item that holds them.
        Variant(
            name="codex-lite",
            protocol="responses",
            model="gpt-5.6-sol",
            tools_in_input=True,
            shows_thoughts=True,
        ),
        Variant(
            name=LOGIN,
            protocol="responses",
            model="gpt-5.5",
            shows_thoughts=True,
            websocket=True,
        ),
    )
    interrupted_status: Final = 1
    logs: Final[tuple[str, ...]] = ()

    def files(self, order: Order) -> Mapping[str, str]:
        """Return the printed configuration, or that of the login variant and a made-up login."""
        if order.variant.name != LOGIN:
            block = order.block_for(PROGRAM).text
            if not order.variant.websocket:
                block = block.replace(_SPEAKS_WEBSOCKET, "")
            return {"codex/config.toml": block}
        model = with_parameters(order.variant.model, order.capabilities or {})
        config = _KEEPS_LOGIN.format(model=model, url=order.api_url, nowhere=_NOWHERE)
        return {
            "codex/config.toml": config,
            "codex/auth.json": json.dumps(_made_up_login(order.client_key)),
        }

    def arguments(self, order: Order) -> tuple[str, ...]:
        """Return one prompt, answered without a terminal."""
        overrides = (
            argument for pair in (*_OF_A_RUN, *_wished(order)) for argument in ("-c", pair)
        )
        again = ("resume", "--last") if order.goes_on else ()
        # The last argument: it takes as many files as there are.
        picture = ("-i", order.wishes.picture) if order.wishes.picture else ()
        return ("exec", *again, "--skip-git-repo-check", *overrides, order.prompt, *picture)

    def environment(self, order: Order) -> Mapping[str, str]:
        """Return its folder, its key, and nowhere to refresh the made-up login."""
        return {
            "CODEX_HOME": str(order.home / "codex"),
            **order.key_variable,
            "CODEX_REFRESH_TOKEN_URL_OVERRIDE": f"{_NOWHERE}/oauth/token",
        }


def _wished(order: Order) -> Iterator[str]:
    if order.wishes.thoughts:
        yield 'model_reasoning_summary="detailed"'
    if order.wishes.small_context:
        tokens = _SMALL_TOKENS.get(order.variant.name, _ITS_SMALL_TOKENS)
        yield f"model_auto_compact_token_limit={tokens}"


def _made_up_login(client_key: str) -> Mapping[str, object]:
    """Return an `auth.json` whose tokens are signed with nothing and end with `client_key`."""
    claims = {
        "exp": _YEAR_2100_UNIX_S,
        "email": "client@example.invalid",
        "https://api.openai.com/auth": {
            "chatgpt_account_id": CLIENT_ACCOUNT_ID,
            "chatgpt_plan_type": "plus",
            "chatgpt_user_id": "user-client",
        },
    }
    token = f"{_base64({'alg': 'none', 'typ': 'JWT'})}.{_base64(claims)}.{client_key}"
    return {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": {
            "id_token": token,
            "access_token": token,
            "refresh_token": client_key,
            "account_id": CLIENT_ACCOUNT_ID,
        },
        # In the future: a login that looks old would be refreshed first.
        "last_refresh": "2099-12-31T00:00:00Z",
    }


def _base64(value: Mapping[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


DRIVER: Final[Driver] = CodexCli()
