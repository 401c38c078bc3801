"""The way of a turn from one account to the next, seen from outside: by the client and the backend.

`relaying` itself checks that every request's bearer and account id are of one account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import trio

from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.protocol.raw import get_text
from codexrelay.relay import climb
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes import responses_events as events
from tests.fakes.relay import ask, ask_chat, eventually, relaying
from tests.fakes.scripted_server import serving
from tests.fakes.simulated import user

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

    from codexrelay.protocol.raw import JsonObject
    from tests.fakes.relay import LiveRelay
    from tests.fakes.scripted_server import Caller

_COMPACT: Final[JsonObject] = {"model": "gpt-5.5", "input": [user("hello")]}
_WAYS: Final = {
    "responses streamed": ("/v1/responses", ask),
    "responses whole": ("/v1/responses", lambda text="hello": ask(text, stream=False)),
    "chat streamed": ("/v1/chat/completions", ask_chat),
    "chat whole": ("/v1/chat/completions", lambda text="hello": ask_chat(text, stream=False)),
    "compact": ("/v1/responses/compact", lambda text="hello": _COMPACT),
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait before the same account is asked again: it is real time here."""
    monkeypatch.setattr(climb, "RETRY_WAIT_S", 0.0)


every_way = pytest.mark.parametrize(("path", "asking"), _WAYS.values(), ids=_WAYS)


def simulator(count: int = 3) -> Simulator:
    return Simulator(accounts=some_accounts(count))


def completed(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and b'"type":"response.completed"' in answer.content


def told_by(answer: httpx.Response) -> tuple[str | None, str | None]:
    """The account and the number of attempts that the client is told."""
    headers = answer.headers
    return headers.get("x-codexrelay-account"), headers.get("x-codexrelay-attempts")


def short(relay: LiveRelay) -> str:
    """The accounts asked, by their last letter: `1`, `2`, `3`."""
    return "".join(str(account)[-1] for account in relay.accounts_asked)


# the headers


@every_way
async def test_every_answer_says_who_gave_it_after_how_many_attempts(
    tmp_path: Path, path: str, asking: Callable[..., JsonObject]
) -> None:
    async with relaying(tmp_path, simulator()) as relay:
        relay.simulator.set_condition("sim-1", "deactivated")
        answer = await relay.post(path, asking())
    assert answer.status_code == 200
    assert told_by(answer) == ("sim-2", "2")
    assert answer.headers["x-codexrelay-request-id"].startswith("req_")
    assert "x-codexrelay-reasoning-stripped" not in answer.headers


@every_way
async def test_every_refusal_says_who_was_asked_last(
    tmp_path: Path, path: str, asking: Callable[..., JsonObject]
) -> None:
    async with relaying(tmp_path, simulator(2)) as relay:
        for name in ("sim-1", "sim-2"):
            relay.simulator.set_condition(name, "unauthorized")
        answer = await relay.post(path, asking())
    assert answer.status_code == 401
    assert told_by(answer) == ("sim-2", "4")


@every_way
async def test_an_answer_that_no_account_was_asked_for_names_none(
    tmp_path: Path, path: str, asking: Callable[..., JsonObject]
) -> None:
    async with relaying(tmp_path, signed_in=False) as relay:
        answer = await relay.post(path, asking())
    assert answer.status_code == 401
    assert told_by(answer) == (None, None)
    assert answer.headers["x-codexrelay-request-id"].startswith("req_")


# who is asked after what


@pytest.mark.parametrize(
    ("faults", "asked"),
    [
        (["401"], "11"),
        (["429"], "12"),
        (["limit_event"], "12"),
        (["429plain"], "12"),
        (["throttle_event"], "12"),
        (["no_codex"], "12"),
        (["deactivated"], "12"),
        (["403html"], "12"),
        (["503"], "11"),
        (["503", "503"], "112"),
        (["failed_early", "failed_early"], "112"),
        (["error_early", "503"], "112"),
        (["reset_early"], "11"),
        (["429", "503"], "122"),
        (["503", "503", "429"], "1123"),
        (["401", "503"], "111"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, list) else value,
)
async def test_what_passes_is_never_seen(tmp_path: Path, faults: list[str], asked: str) -> None:
    async with relaying(tmp_path, simulator()) as relay:
        relay.simulator.queue_faults(*faults)
        answer = await relay.post("/v1/responses", ask())
        assert short(relay) == asked
    assert completed(answer)
    assert told_by(answer) == (f"sim-{asked[-1]}", str(len(asked)))


@pytest.mark.parametrize(
    ("faults", "asked", "status"),
    [
        (["400"], "1", 400),
        (["503", "503", "503"], "112", 503),
        (["failed_early", "failed_early", "failed_early"], "112", 503),
        (["reset_early", "reset_early"], "11", 502),
        (["429", "429", "429"], "123", 429),
        (["no_codex", "no_codex", "no_codex"], "123", 403),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, list) else None,
)
async def test_what_does_not_pass_is_told(
    tmp_path: Path, faults: list[str], asked: str, status: int
) -> None:
    async with relaying(tmp_path, simulator()) as relay:
        relay.simulator.queue_faults(*faults)
        answer = await relay.post("/v1/responses", ask())
        assert short(relay) == asked
    assert answer.status_code == status
    assert told_by(answer) == (f"sim-{asked[-1]}", str(len(asked)))


@pytest.mark.parametrize("fault", ["failed", "error_event", "drop", "eof", "cut"])
async def test_after_the_first_output_nobody_else_is_asked(tmp_path: Path, fault: str) -> None:
    async with relaying(tmp_path, simulator()) as relay:
        relay.simulator.queue_faults(fault)
        answer = await relay.post("/v1/responses", ask())
        assert short(relay) == "1"
    assert answer.status_code == 200
    assert not completed(answer)
    assert told_by(answer) == ("sim-1", "1")


@pytest.mark.parametrize("fault", ["503", "400", "401", "reset_early", "failed_early"])
async def test_what_is_not_the_accounts_fault_costs_it_nothing(tmp_path: Path, fault: str) -> None:
    async with relaying(tmp_path, simulator(1)) as relay:
        relay.simulator.queue_faults(fault)
        await relay.post("/v1/responses", ask())
        [account] = (await relay.http.get("/healthz")).json()["accounts"]
        standing = relay.standing("sim-1")
    assert account == {
        "id": "sim-1",
        "state": "valid",
        "turns": 0,
        "why": None,
        "until_unix_s": None,
    }
    assert (standing.account.rate_limited_until_unix_s, standing.pause) == (None, None)


async def test_a_limited_account_is_left_alone_until_its_reset(tmp_path: Path) -> None:
    async with relaying(tmp_path, simulator()) as relay:
        relay.simulator.limit("sim-2")
        for _ in range(6):
            assert completed(await relay.post("/v1/responses", ask()))
        assert short(relay) == "1231313"
        states = (await relay.http.get("/healthz")).json()["accounts"]
    assert [account["state"] for account in states] == ["valid", "rate_limited", "valid"]


async def test_an_account_asked_too_fast_is_left_alone_for_the_stated_seconds(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path, simulator()) as relay:
        relay.simulator.set_condition("sim-2", "throttled", wait_s=100)
        for _ in range(6):
            assert completed(await relay.post("/v1/responses", ask()))
        assert short(relay) == "1231313"


async def test_an_answer_that_began_before_the_limit_was_met_does_not_lift_it(
    tmp_path: Path,
) -> None:
    limit_met = trio.Event()

    async def script(caller: Caller) -> None:
        request = await caller.request()
        if b"early" in request:
            await limit_met.wait()
            quota = b"x-codex-primary-used-percent: 99\r\n"
            body = events.created() + events.text("Hello") + events.completed()
            await caller.send(b"HTTP/1.1 200 X\r\n%s\r\n%s" % (quota, body))
        else:
            spent = b'{"error":{"type":"usage_limit_reached","resets_in_seconds":600}}'
            head = b"HTTP/1.1 429 X\r\ncontent-length: %d\r\n\r\n" % len(spent)
            await caller.send(head + spent)

    async with (
        serving(script) as upstream,
        relaying(tmp_path, backend=CodexBackendSettings(api_base_url=upstream.url)) as relay,
        relay.open_turn(ask("early")) as early,
    ):
        await upstream.until_open(1)
        await eventually(lambda: relay.burden["leases"] == 1)
        late = await relay.post("/v1/responses", ask("late"))
        assert late.status_code == 429
        limit_met.set()
        assert b"response.completed" in await early.to_the_end()
        [account] = (await relay.http.get("/healthz")).json()["accounts"]
        limits = relay.standing("sim-1").account.limits
    assert account["state"] == "rate_limited"
    assert limits is not None


# what goes on is told


async def test_the_upstream_request_is_the_same_for_every_account(tmp_path: Path) -> None:
    async with relaying(tmp_path, simulator()) as relay:
        relay.simulator.queue_faults("429", "503", "503")
        await relay.post("/v1/responses", ask("say it"))
        bodies = [seen.body for seen in relay.asked]
        states = [seen.header("x-codex-turn-state") for seen in relay.asked]
    assert bodies == [bodies[0]] * 4
    assert states == [None] * 4


async def test_a_turns_state_does_not_follow_it_to_another_account(tmp_path: Path) -> None:
    headers = {"x-session-id": "ses_1"}
    async with relaying(tmp_path, simulator(2)) as relay:
        first = await relay.post("/v1/responses", ask(), headers=headers)
        state = first.headers["x-codex-turn-state"]
        headers["x-codex-turn-state"] = state
        relay.simulator.limit("sim-1")
        await relay.post("/v1/responses", ask(), headers=headers)
        moved = relay.asked[-1]
    assert (moved.account, moved.header("x-codex-turn-state")) == ("sim-2", None)
    assert get_text(relay.asked[1].body, "model") == "gpt-5.5"  # type: ignore[arg-type]
