"""Who the relay says it is towards the Codex backend, in one deliberate place.

Three identities, one of which a backend block has (`identity`):

- `codex`: Codex CLI, as the owner's document asks for. Values as Codex CLI 0.169 sends them
  (measured); constants, so nothing of the host, its terminal or its user is in them.
- `relay`: codexrelay, by its own name and version and nothing more. It sends no `version` header:
  that is a version of Codex CLI, and the backend serves clients that send none (wire notes 2.1: a
  custom provider of Codex CLI sends none, nor does OpenCode), and no features of Codex CLI's.
- `client`: what a client that is Codex CLI says of itself; for every other client, and for the
  relay's own questions, as `codex`.

`client_version` of `/models` is sent under each of them: it is no name but a filter, by which the
backend leaves models out that want a newer Codex CLI than that (wire notes 5).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from codexrelay import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Identity: TypeAlias = Literal["codex", "relay", "client"]
Headers: TypeAlias = tuple[tuple[str, str], ...]

VERSION: Final = "0.169.0"
ORIGINATOR: Final = "codex_exec"
USER_AGENT: Final = (
    f"{ORIGINATOR}/{VERSION} (Debian 12.0.0; x86_64) xterm ({ORIGINATOR}; {VERSION})"
)
BETA_FEATURES: Final = "remote_compaction_v2"

SESSION: Final = "session-id"
THREAD: Final = "thread-id"
FEATURES: Final = "x-codex-beta-features"
_VERSION: Final = "version"
_ORIGINATOR: Final = "originator"
_USER_AGENT: Final = "user-agent"
#: The headers in which a program names itself.
OWN: Final = frozenset({_VERSION, _ORIGINATOR, _USER_AGENT})

#: `codex_exec`, `codex-tui`, `codex_cli_rs`, `Codex Desktop`; not `codexrelay`, nor another word
#: that begins so.
_IS_CODEX: Final = re.compile(r"codex(?:[-_ ][!-~ ]{0,58}[!-~])?", re.IGNORECASE)
_CODEX_AGENT: Final = re.compile(
    r"codex(?:[-_ ][!-.0-~ ]{0,58})?/(?P<version>\d[0-9A-Za-z.+-]{0,31})(?: [!-~ ]{0,400}[!-~])?",
    re.IGNORECASE | re.ASCII,
)
_IS_VERSION: Final = re.compile(r"\d[0-9A-Za-z.+-]{0,31}", re.ASCII)


@attrs.frozen
class Name:
    """What stands in the headers that name a program."""

    #: Of Codex CLI; None: it is another program.
    version: str | None
    originator: str
    user_agent: str
    #: The headers in front of a request's others, and those behind, as Codex CLI sends them.
    in_front: Headers = attrs.field(init=False, eq=False, repr=False)
    behind: Headers = attrs.field(init=False, eq=False, repr=False)

    @in_front.default
    def _in_front(self) -> Headers:
        return () if self.version is None else ((_VERSION, self.version),)

    @behind.default
    def _behind(self) -> Headers:
        return ((_ORIGINATOR, self.originator), (_USER_AGENT, self.user_agent))


CODEX: Final = Name(VERSION, ORIGINATOR, USER_AGENT)
RELAY: Final = Name(None, "codexrelay", f"codexrelay/{__version__}")


def said_by(client: Mapping[str, str]) -> Headers:
    """Return what a client that is Codex CLI says of itself; nothing of any other.

    `client` are its headers, lower-case. Each value is plain ASCII and short, whatever it was. To a
    custom provider Codex CLI sends no `version`, so it is that of its user agent.
    """
    originator = client.get(_ORIGINATOR)
    if originator is None or _IS_CODEX.fullmatch(originator) is None:
        return ()
    agent = _CODEX_AGENT.fullmatch(client.get(_USER_AGENT, ""))
    if agent is None:
        return ()
    version = client.get(_VERSION, "")
    if _IS_VERSION.fullmatch(version) is None:
        version = agent["version"]
    return ((_VERSION, version), (_ORIGINATOR, originator), (_USER_AGENT, agent[0]))


def name_for(identity: Identity, headers: Sequence[tuple[str, str]] = ()) -> Name:
    """Return the name that a request goes out under.

    `headers` are the request's, in which `said_by` has put what the client says of itself.
    """
    if identity == "relay":
        return RELAY
    if identity == "client":
        said = {name: value for name, value in headers if name in OWN}
        if len(said) == len(OWN):
            return Name(said[_VERSION], said[_ORIGINATOR], said[_USER_AGENT])
    return CODEX


def named(
    headers: Sequence[tuple[str, str]],
    account: Sequence[tuple[str, str]],
    identity: Identity,
) -> list[tuple[str, str]]:
    """Return a whole request's headers: its own, the account's, and the name, in Codex's order.

    Whatever `headers` say of who sends them is left out but for the identity `client`. A turn,
    which names a session, says what Codex CLI can do under the name of Codex CLI; under the relay's
    only if the client says so.
    """
    name = name_for(identity, headers)
    own = [header for header in headers if header[0] not in OWN]
    said = {header[0] for header in own}
    if SESSION not in said:
        return [*name.in_front, *account, *name.behind, *own]
    if name.version is not None and FEATURES not in said:
        own.insert(0, (FEATURES, BETA_FEATURES))
    return [*name.in_front, *own, *account, *name.behind]
