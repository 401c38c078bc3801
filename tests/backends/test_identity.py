"""Who a request says it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay import __version__
from codexrelay.backends.codex import identity
from codexrelay.backends.codex.headers import question_headers, request_headers
from codexrelay.backends.codex.identity import CODEX, RELAY, Name, name_for, named, said_by

if TYPE_CHECKING:
    from codexrelay.backends.codex.identity import Identity

_ACCOUNT: Final = (("authorization", "Bearer t"), ("chatgpt-account-id", "a"))
_AGENT: Final = "codex_exec/0.172.1 (Mac OS 26.1.0; arm64) ghostty (codex_exec; 0.172.1)"
_OF_CODEX: Final = {"originator": "codex_exec", "user-agent": _AGENT, "version": "0.172.1"}


def headers_under(
    which: Identity, client: dict[str, str] | None = None, *, turn_state: str | None = None
) -> list[tuple[str, str]]:
    """Return all headers of a turn, as the backend sees them."""
    asked = request_headers(
        client or {}, session_id="s-1", turn_state=turn_state, accept="text/event-stream"
    )
    return list(named(asked, _ACCOUNT, which))


#: Source: wire notes 2.1, in the order of that table; `accept-encoding` is the relay's own.
_FEATURES: Final = ("x-codex-beta-features", "remote_compaction_v2")
_BETWEEN: Final = [
    ("x-client-request-id", "s-1"),
    ("session-id", "s-1"),
    ("thread-id", "s-1"),
    ("accept", "text/event-stream"),
    ("accept-encoding", "identity"),
    ("content-type", "application/json"),
    *_ACCOUNT,
]
_AS_CODEX: Final = [
    ("version", "0.169.0"),
    _FEATURES,
    *_BETWEEN,
    ("originator", "codex_exec"),
    ("user-agent", "codex_exec/0.169.0 (Debian 12.0.0; x86_64) xterm (codex_exec; 0.169.0)"),
]
_AS_RELAY: Final = [
    *_BETWEEN,
    ("originator", "codexrelay"),
    ("user-agent", f"codexrelay/{__version__}"),
]
_AS_CLIENT: Final = [
    ("version", "0.172.1"),
    _FEATURES,
    *_BETWEEN,
    ("originator", "codex_exec"),
    ("user-agent", _AGENT),
]
_PAIR: Final = ("session-id", "thread-id")
_OPENCODE: Final = {"user-agent": "opencode/1.17.4", "originator": "opencode"}


@pytest.mark.parametrize(
    ("which", "client", "wanted"),
    [
        ("codex", {}, _AS_CODEX),
        ("codex", _OF_CODEX, _AS_CODEX),
        ("codex", _OPENCODE, _AS_CODEX),
        ("relay", {}, _AS_RELAY),
        ("relay", _OF_CODEX, _AS_RELAY),
        ("relay", _OPENCODE, _AS_RELAY),
        ("client", {}, _AS_CODEX),
        ("client", _OF_CODEX, _AS_CLIENT),
        ("client", _OPENCODE, _AS_CODEX),
    ],
)
def test_each_identity_sends_these_headers_in_this_order(
    which: Identity, client: dict[str, str], wanted: list[tuple[str, str]]
) -> None:
    assert headers_under(which, client) == wanted


def test_under_the_relays_own_name_only_the_client_names_features() -> None:
    said = headers_under("relay", {"x-codex-beta-features": "a"})
    assert said == [("x-codex-beta-features", "a"), *_AS_RELAY]


@pytest.mark.parametrize(
    ("which", "in_front", "behind"),
    [
        ("codex", [("version", "0.169.0")], _AS_CODEX[-2:]),
        ("client", [("version", "0.169.0")], _AS_CODEX[-2:]),
        ("relay", [], _AS_RELAY[-2:]),
    ],
)
def test_a_question_of_the_relays_own_names_no_session(
    which: Identity, in_front: list[tuple[str, str]], behind: list[tuple[str, str]]
) -> None:
    # Source: wire notes 5; `accept-encoding` is the relay's own.
    sent = named(question_headers(), _ACCOUNT, which)
    last = [("accept", "*/*"), ("accept-encoding", "identity")]
    assert sent == [*in_front, *_ACCOUNT, *behind, *last]


@pytest.mark.parametrize("value", ["", "a\x00b", "a\rb", "a\tb", "a\x7fb", "x" * 16_385])
def test_what_can_be_in_no_header_is_not_passed_on(value: str) -> None:
    said = {"x-codex-routing-hint": value, "x-codex-beta-features": value, "thread-id": value}
    said |= {"session-id": value, "x-client-request-id": value}
    assert headers_under("codex", said) == _AS_CODEX


@pytest.mark.parametrize(
    "said",
    [
        {"session-id": "mine"},
        {"thread-id": "mine"},
        {"session-id": "mine", "thread-id": ""},
        {"session-id": "jürgen", "thread-id": "mine"},
        {"session-id": "mine", "thread-id": "mine\x85"},
    ],
)
def test_session_and_thread_come_from_the_client_only_as_a_pair(said: dict[str, str]) -> None:
    assert headers_under("codex", said) == _AS_CODEX


def test_a_clients_thread_may_be_another_than_its_session() -> None:
    sent = headers_under("codex", {"session-id": "s", "thread-id": "t"})
    assert [h for h in sent if h[0] in _PAIR] == [("session-id", "s"), ("thread-id", "t")]


def test_what_codex_says_for_the_backend_stands_where_codex_has_it() -> None:
    said = {
        "thread-id": "t",
        "x-openai-subagent": "review",
        "x-codex-routing-hint": "model=gpt-5.5",
        "session-id": "s",
        "x-openai-internal-codex-responses-lite": "true",
        "x-codex-turn-metadata": "{}",
        "x-client-request-id": "t",
        "x-codex-window-id": "t:0",
        "x-codex-beta-features": "a,b",
    }
    names = [name for name, _ in headers_under("codex", said, turn_state="state")]
    assert names == [
        "version",
        "x-codex-beta-features",
        "x-codex-window-id",
        "x-codex-turn-metadata",
        "x-openai-internal-codex-responses-lite",
        "x-codex-routing-hint",
        "x-openai-subagent",
        "x-codex-turn-state",
        "x-client-request-id",
        "session-id",
        "thread-id",
        "accept",
        "accept-encoding",
        "content-type",
        "authorization",
        "chatgpt-account-id",
        "originator",
        "user-agent",
    ]


_REAL: Final = {
    "exec": ("codex_exec", "codex_exec/0.169.0 (Debian 12.0.0; x86_64) dumb (codex_exec; 0.169.0)"),
    "tui": ("codex-tui", "codex-tui/0.169.0 (Mac OS 26.0; arm64) iTerm.app/3.6 (codex-tui; 0.169)"),
    "older": ("codex_cli_rs", "codex_cli_rs/0.118.0-alpha.2 (Windows 11; x86_64) unknown"),
    "editor": ("codex_vscode", "codex_vscode/0.169.0"),
    "app": ("Codex Desktop", "Codex Desktop/0.169.0 (Mac OS 26.1.0; arm64)"),
}


@pytest.mark.parametrize(("originator", "agent"), _REAL.values(), ids=_REAL)
def test_codex_cli_is_known_by_its_originator_and_its_user_agent(
    originator: str, agent: str
) -> None:
    said = said_by({"originator": originator, "user-agent": agent})
    version = agent.partition("/")[2].partition(" ")[0]
    assert name_for("client", said) == Name(version, originator, agent)


@pytest.mark.parametrize(
    "changed",
    [
        {"originator": "opencode"},
        {"originator": ""},
        {"originator": "codexrelay"},
        {"originator": "codex_exec\x00"},
        {"originator": "codex_jürgen"},
        {"originator": "codex_" + "x" * 100},
        {"user-agent": "opencode/1.0"},
        {"user-agent": "codexrelay/0.1"},
        {"user-agent": "codex_exec"},
        {"user-agent": "codex_exec/new"},
        {"user-agent": "codex_exec/0.1 (für dich)"},
        {"user-agent": "codex_exec/0.1 (a\tb)"},
        {"user-agent": "codex_exec/0.1 " + "x" * 1000},
    ],
    ids=str,
)
def test_whatever_does_not_look_like_codex_cli_goes_out_as_codex(changed: dict[str, str]) -> None:
    assert said_by(_OF_CODEX | changed) == ()
    assert headers_under("client", _OF_CODEX | changed) == _AS_CODEX


@pytest.mark.parametrize("version", [None, "", "new", "0.1\x00", "0." + "1" * 100, "0.ü"])
def test_a_version_that_is_none_is_that_of_the_user_agent(version: str | None) -> None:
    client = {name: value for name, value in _OF_CODEX.items() if name != "version"}
    if version is not None:
        client["version"] = version
    assert headers_under("client", client) == _AS_CLIENT


@pytest.mark.parametrize("which", ["codex", "relay"])
@given(
    client=st.dictionaries(
        st.sampled_from(["originator", "user-agent", "version"]),
        st.one_of(st.text(max_size=50), st.sampled_from([*_OF_CODEX.values()])),
    )
)
def test_nothing_that_a_client_says_of_itself_shows_under_the_other_identities(
    which: Identity, client: dict[str, str]
) -> None:
    assert headers_under(which, client) == headers_under(which)


@given(
    client=st.fixed_dictionaries(
        {"originator": st.text(), "user-agent": st.text(), "version": st.text()}
    )
)
def test_whatever_a_client_says_the_name_can_stand_in_a_header(client: dict[str, str]) -> None:
    name = name_for("client", said_by(client))
    for _, value in (*name.in_front, *name.behind):
        assert value.isascii()
        assert value.isprintable()
        assert 0 < len(value) < 600


def test_what_the_relay_asks_by_itself_it_asks_under_the_blocks_name() -> None:
    assert name_for("codex") == name_for("client") == CODEX
    assert name_for("relay") == RELAY


def test_the_constants_hold_nothing_but_codex_cli() -> None:
    assert identity.USER_AGENT.count(identity.VERSION) == 2
    assert identity.USER_AGENT.startswith(f"{identity.ORIGINATOR}/")
