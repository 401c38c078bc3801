"""ChatMock: both protocols over one ChatGPT login. Measured with 1.40.

Where its sign-in service is can be told with a variable; where the backend is cannot.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from harness.peers.peer import Peer, Upstream, kept_on_loopback, redirected
from harness.servers.kinds.kind import version_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.servers.kinds.kind import Program

_NAME: Final = "chatmock"
_PINS: Final = Path(__file__).with_suffix(".txt")
_VERSION: Final = version_in(_PINS, "chatmock")


class ChatMock:
    """`chatmock serve`, as it is."""

    name: Final = _NAME
    version: Final = _VERSION
    pins: Final = _PINS
    given: Final = (
        "one account, which is what it can have; its settings as they are; "
        "the backend's address set in its module, where it is a constant"
    )

    def program_before(self, upstream: Upstream) -> Program:
        """Return it in front of this backend."""
        return _Serving(upstream)


@attrs.frozen
class _Serving:
    """It, configured."""

    _upstream: Upstream
    name: str = _NAME
    version: str = _VERSION
    pins: Path = _PINS
    key: str | None = None

    def files(self) -> Mapping[str, str]:
        """Return its login."""
        login = {
            "OPENAI_API_KEY": None,
            "tokens": dict(self._upstream.login),
            "last_refresh": datetime.fromtimestamp(self._upstream.now_unix_s, UTC).isoformat(),
        }
        return {"auth.json": json.dumps(login)}

    def preparation(self, python: Path) -> None:
        """Return nothing: it is ready."""

    def command(self, python: Path, port: int) -> tuple[str, ...]:
        """Return the command that serves."""
        base = self._upstream.api_base_url
        return redirected(
            python,
            modules=("chatmock.cli",),
            constants={
                "CHATGPT_CODEX_BASE_URL": base,
                "CHATGPT_RESPONSES_URL": f"{base}/responses",
            },
            entry="chatmock.cli:main",
            arguments=("serve", "--host", "127.0.0.1", "--port", str(port)),
        )

    def environment(self) -> Mapping[str, str]:
        """Return where its login is, and where it is refreshed."""
        home = {"CHATGPT_LOCAL_HOME": ".", "CHATGPT_LOCAL_ISSUER": self._upstream.issuer_url}
        return {**home, **kept_on_loopback()}


PEER: Final[Peer] = ChatMock()
