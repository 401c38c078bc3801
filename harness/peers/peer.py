"""The seam between the measurement and one other relay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from harness.servers.kinds.kind import Pinned
from harness.simulator.accounts import id_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.servers.kinds.kind import Program
    from harness.simulator import Simulator

#: What runs in the interpreters of the peers.
_REDIRECTED: Final = Path(__file__).parent / "programs" / "redirected.py"
#: Where nothing listens: what is not on loopback gets no further.
_NOWHERE: Final = "http://127.0.0.1:1"


@attrs.frozen(kw_only=True)
class Upstream:
    """The simulated backend that a peer is put in front of, and a login there."""

    #: As Codex programs know it: with `/backend-api/codex`.
    api_base_url: str
    #: The sign-in service, without a path.
    issuer_url: str
    #: `id_token`, `access_token`, `refresh_token` and `account_id`.
    login: Mapping[str, str] = attrs.field(repr=False)
    now_unix_s: float


class Peer(Pinned, Protocol):
    """Another relay. What it is given is said in the output."""

    @property
    def given(self) -> str:
        """Return in a line what it was given, and what of it was changed."""

    def program_before(self, upstream: Upstream) -> Program:
        """Return it as a program that serves in front of this backend."""


def upstream_of(simulator: Simulator) -> Upstream:
    """Return what a peer is told of a simulator that serves: its first account."""
    account = simulator.accounts[0]
    tokens, now_unix_s = simulator.tokens(account.name), simulator.wall_clock()
    return Upstream(
        api_base_url=simulator.api_base_url,
        issuer_url=simulator.issuer_url,
        login={
            "id_token": id_token(account, token_id="peer", issued_unix_s=now_unix_s),
            "access_token": tokens.access_token,
            "refresh_token": tokens.refresh_token,
            "account_id": account.account_id,
        },
        now_unix_s=now_unix_s,
    )


def redirected(
    python: Path,
    *,
    modules: Sequence[str],
    constants: Mapping[str, str],
    entry: str,
    arguments: Sequence[str],
) -> tuple[str, ...]:
    """Return the command that starts a program with other constants, see `programs/redirected`."""
    told = {"modules": list(modules), "constants": dict(constants), "entry": entry}
    return (str(python), str(_REDIRECTED), json.dumps(told), *arguments)


def kept_on_loopback() -> Mapping[str, str]:
    """Return the variables that let nothing out: no service is on loopback with `https`."""
    return {"HTTPS_PROXY": _NOWHERE, "https_proxy": _NOWHERE, "NO_PROXY": "127.0.0.1,localhost"}
