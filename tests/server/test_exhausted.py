"""What the client is told when no account can take its turn, and how the relay finds out again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from harness.simulator import SimulatedAccount, Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes.account_commands import AccountCommands
from tests.fakes.relay import ask, ask_chat, eventually, relaying, with_accounts
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from codexrelay.protocol.raw import JsonObject
    from tests.fakes.relay import LiveRelay

_DAY_S: Final = 24 * 3600


def simulator(count: int, clock: WallClock) -> Simulator:
    return Simulator(accounts=some_accounts(count), wall_clock=clock)


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


async def status(relay: LiveRelay) -> int:
    return (await relay.post("/v1/responses", ask())).status_code


def sign_in_codex_cli(simulator: Simulator, folder: Path) -> Path:
    """Write an `auth.json` as Codex CLI has it; return its folder."""
    pair = simulator.tokens("sim-1")
    tokens = {
        "access_token": pair.access_token,
        "refresh_token": pair.refresh_token,
        "account_id": simulator.account("sim-1").account_id,
    }
    codex = folder / "codex"
    codex.mkdir()
    (codex / "auth.json").write_text(json.dumps({"tokens": tokens}), encoding="utf-8")
    return codex


@pytest.mark.parametrize(
    ("path", "asking"),
    [("/v1/responses", ask), ("/v1/chat/completions", ask_chat)],
    ids=["responses", "chat"],
)
async def test_when_every_account_is_spent_each_ones_reason_is_told_and_nobody_is_asked(
    tmp_path: Path, clock: WallClock, path: str, asking: Callable[..., JsonObject]
) -> None:
    async with relaying(tmp_path, simulator(3, clock)) as relay:
        relay.simulator.limit("sim-1", resets_in_s=7200)
        relay.simulator.limit("sim-2", resets_in_s=1800)
        relay.simulator.set_condition("sim-3", "deactivated")
        first = await relay.post(path, asking())
        asked = len(relay.simulator.seen)
        answer = await relay.post(path, asking())
        assert len(relay.simulator.seen) == asked
    assert [one.status_code for one in (first, answer)] == [429, 429]
    assert answer.headers["retry-after"] == "15", "clients obey it in silence: never long"
    assert answer.headers["x-should-retry"] == "false"
    error = answer.json()["error"]
    assert error["type"] == error["code"] == "usage_limit_reached"
    assert error["plan_type"] == "plus"
    assert error["resets_at"] == pytest.approx(clock() + 1800, abs=2)
    assert error["resets_in_seconds"] == pytest.approx(1800, abs=2)
    assert error["accounts"] == [
        {"id": "sim-1", "resets_at": pytest.approx(clock() + 7200, abs=2)},
        {"id": "sim-2", "resets_at": pytest.approx(clock() + 1800, abs=2)},
    ]
    assert error["reasons"] == [
        "account sim-1 waits 2 h for its quota",
        "account sim-2 waits 30 min for its quota",
        "account sim-3 was turned away with 403 deactivated_workspace and is tried again in 1 h",
    ]
    for words in ("sim-2 is free again in 30 min", *error["reasons"]):
        assert words in error["message"]


async def test_the_first_reset_brings_the_pool_back(tmp_path: Path, clock: WallClock) -> None:
    async with relaying(tmp_path, simulator(2, clock)) as relay:
        relay.simulator.limit("sim-1", resets_in_s=7200)
        relay.simulator.limit("sim-2", resets_in_s=900)
        assert [await status(relay) for _ in range(2)] == [429, 429]
        clock.now_unix_s += 901
        relay.simulator.unlimit("sim-2")
        assert [await status(relay) for _ in range(2)] == [200, 200]
        assert relay.accounts_asked[2:] == ["sim-2", "sim-2"]
        assert relay.standing("sim-2").account.rate_limited_until_unix_s is None


async def test_after_the_cap_one_request_asks_although_the_reset_has_not_come(
    tmp_path: Path, clock: WallClock
) -> None:
    capped = with_accounts(rate_limit_local_cooldown_cap_seconds=600.0)
    async with relaying(tmp_path, simulator(2, clock), backend=capped) as relay:
        relay.simulator.limit("sim-1", resets_in_s=_DAY_S)
        assert [await status(relay) for _ in range(3)] == [200] * 3
        assert relay.accounts_asked == ["sim-1", "sim-2", "sim-2", "sim-2"]
        clock.now_unix_s += 601
        assert [await status(relay) for _ in range(3)] == [200] * 3
        probes = relay.accounts_asked[4:].count("sim-1")
        assert probes == 1, "it was told again to wait"
        clock.now_unix_s += 601
        relay.simulator.unlimit("sim-1")
        asked = len(relay.asked)
        assert [await status(relay) for _ in range(4)] == [200] * 4
        assert relay.accounts_asked[asked:].count("sim-1") == 2, "it takes its share again"


async def test_while_one_request_asks_the_others_avoid_the_account(
    tmp_path: Path, clock: WallClock
) -> None:
    capped = with_accounts(rate_limit_local_cooldown_cap_seconds=600.0)
    async with relaying(tmp_path, simulator(2, clock), backend=capped) as relay:
        relay.simulator.limit("sim-1", resets_in_s=_DAY_S)
        assert await status(relay) == 200
        clock.now_unix_s += 601
        relay.simulator.unlimit("sim-1")
        relay.simulator.queue_faults("hang_early", account="sim-1")
        async with relay.open_turn(ask()):
            probe = await relay.until_asked(3)
            assert probe.account == "sim-1"
            assert [await status(relay) for _ in range(3)] == [200] * 3
            assert relay.accounts_asked[3:] == ["sim-2"] * 3
        await relay.until_at_rest()
        assert relay.standing("sim-1").probes == 0


async def test_without_a_cap_nobody_asks_before_the_reset(tmp_path: Path, clock: WallClock) -> None:
    trusting = with_accounts(rate_limit_local_cooldown_cap_seconds=0.0)
    async with relaying(tmp_path, simulator(1, clock), backend=trusting) as relay:
        relay.simulator.limit("sim-1", resets_in_s=_DAY_S)
        assert await status(relay) == 429
        clock.now_unix_s += _DAY_S - 5
        assert await status(relay) == 429
        assert len(relay.asked) == 1


async def test_codex_clis_own_account_says_that_there_is_no_other(
    tmp_path: Path, clock: WallClock
) -> None:
    backend = simulator(1, clock)
    codex = sign_in_codex_cli(backend, tmp_path)
    async with relaying(tmp_path, backend, signed_in=False, auth_json=codex) as relay:
        assert await status(relay) == 200
        relay.simulator.limit("sim-1", resets_in_s=7200)
        answers = [await relay.post("/v1/responses", ask()) for _ in range(2)]
        assert len(relay.asked) == 2, "the second one asked nobody"
    for answer in answers:
        assert answer.status_code == 429
        error = answer.json()["error"]
        assert error["type"] == "usage_limit_reached"
        assert error["resets_in_seconds"] == pytest.approx(7200, abs=2)
        for words in ("free again in 2 h", "no other to turn to", "codexrelay accounts add"):
            assert words in error["message"]


async def test_without_any_account_the_client_is_told_the_command(tmp_path: Path) -> None:
    async with relaying(tmp_path, signed_in=False) as relay:
        answer = await relay.post("/v1/responses", ask())
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("authentication_error", "no_usable_account")
    assert "codexrelay accounts add" in error["message"]


async def test_an_account_that_must_sign_in_again_is_named_with_the_command(tmp_path: Path) -> None:
    async with relaying(tmp_path, Simulator(accounts=some_accounts(2))) as relay:
        for name in ("sim-1", "sim-2"):
            relay.simulator.revoke(name)
        answers = [await relay.post("/v1/responses", ask()) for _ in range(2)]
        asked = len(relay.asked)
        await relay.post("/v1/responses", ask())
        assert len(relay.asked) == asked
    for answer in answers:
        assert answer.status_code == 401
        for name in ("sim-1", "sim-2"):
            assert f"codexrelay accounts update {name}" in answer.json()["error"]["message"]


async def test_accounts_without_codex_are_told_as_such(tmp_path: Path) -> None:
    accounts = (SimulatedAccount("a", plan="free"), SimulatedAccount("b"))
    async with relaying(tmp_path, Simulator(accounts=accounts)) as relay:
        relay.simulator.set_condition("a", "no_codex")
        relay.simulator.set_condition("b", "deactivated")
        await relay.post("/v1/responses", ask())
        answer = await relay.post("/v1/responses", ask())
        assert len(relay.asked) == 2
        attention = [relay.standing(name).account.attention for name in "ab"]
    assert answer.status_code == 403
    assert [one.code for one in attention if one] == ["usage_not_included", "deactivated_workspace"]
    for words in (
        "account a was turned away",
        "account b was turned away",
        "once that is mended: `codexrelay accounts clear-reauth a` or "
        "`codexrelay accounts clear-reauth b`",
    ):
        assert words in answer.json()["error"]["message"]


async def test_an_account_is_asked_at_once_when_its_owner_has_mended_its_plan(
    tmp_path: Path, clock: WallClock
) -> None:
    async with relaying(tmp_path, simulator(1, clock)) as relay:
        relay.simulator.set_condition("sim-1", "no_codex")
        assert await status(relay) == 403
        noted = relay.store / "sim-1.state.json"
        await eventually(lambda: noted.exists() and b"usage_not_included" in noted.read_bytes())
        relay.simulator.set_condition("sim-1", None)
        assert await status(relay) == 403
        assert len(relay.asked) == 1, "nobody is asked before an hour has passed"
        commands = AccountCommands(folder=tmp_path, simulator=relay.simulator, clock=clock)
        result = await commands.run_beside("clear-reauth", "sim-1")
        assert result.exit_code == 0, result.output
        clock.now_unix_s += 5
        assert await status(relay) == 200


async def test_a_relay_that_starts_anew_does_not_ask_an_account_without_codex(
    tmp_path: Path, clock: WallClock
) -> None:
    backend = simulator(2, clock)
    async with relaying(tmp_path, backend) as relay:
        relay.simulator.set_condition("sim-1", "no_codex")
        assert [await status(relay) for _ in range(2)] == [200, 200]
        noted = relay.store / "sim-1.state.json"
        await eventually(lambda: noted.exists() and b"usage_not_included" in noted.read_bytes())
    async with relaying(tmp_path, backend, signed_in=False) as relay:
        asked = len(relay.asked)
        assert [await status(relay) for _ in range(3)] == [200] * 3
        assert relay.accounts_asked[asked:] == ["sim-2"] * 3
        clock.now_unix_s += 3601
        relay.simulator.set_condition("sim-1", None)
        assert [await status(relay) for _ in range(2)] == [200] * 2
        assert "sim-1" in relay.accounts_asked[asked:]


async def test_health_says_of_each_account_why_and_until_when_it_takes_no_turn(
    tmp_path: Path, clock: WallClock
) -> None:
    async with relaying(tmp_path, simulator(4, clock)) as relay:
        relay.simulator.limit("sim-1", resets_in_s=7200)
        relay.simulator.set_condition("sim-2", "no_codex")
        relay.simulator.revoke("sim-3")
        assert [await status(relay) for _ in range(4)] == [200] * 4
        body = (await relay.http.get("/healthz")).json()
        relay.simulator.limit("sim-4", resets_in_s=60)
        assert await status(relay) == 429
        spent = (await relay.http.get("/healthz")).json()
    assert (body["status"], body["usable"]) == ("ok", 1)
    told = {
        account["id"]: (account["why"], account["until_unix_s"]) for account in body["accounts"]
    }
    assert told["sim-1"] == (
        "account sim-1 waits 2 h for its quota",
        pytest.approx(clock() + 7200, abs=2),
    )
    assert told["sim-2"] == (
        "account sim-2 was turned away with 403 usage_not_included and is tried again in 1 h",
        clock() + 3600,
    )
    assert "account sim-3 must sign in again" in told["sim-3"][0]
    assert told["sim-3"][1] is None
    assert told["sim-4"] == (None, None)
    assert (spent["status"], spent["usable"]) == ("ok", 0)
