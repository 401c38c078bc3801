"""Signing in with a device code, on virtual time; and once for real, with the simulator."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import attrs
import httpx
import orjson
import pytest
import trio

from codexrelay.accounts.login.call import CALL_S
from codexrelay.accounts.login.device import DevicePrompt, device_login
from codexrelay.accounts.login.errors import LoginError
from codexrelay.backends.transports.direct import DirectTransport
from harness.simulator import Simulator
from tests.fakes.cancel_at_step import CancelAtStep
from tests.fakes.login import ISSUER, ScriptedIssuer, tokens
from tests.fakes.simulated import simulated
from tests.fakes.virtual_time import in_virtual_time
from tests.fakes.wall_clock import NOW_UNIX_S

if TYPE_CHECKING:
    from codexrelay.accounts.login.signed_in import SignedIn
    from codexrelay.protocol.raw import Json, JsonObject

USERCODE = "/api/accounts/deviceauth/usercode"
POLL = "/api/accounts/deviceauth/token"
STARTED: JsonObject = {
    "device_auth_id": "deviceauth_1",
    "user_code": "ABCD-EFGHI",
    "interval": "5",
}
APPROVED: JsonObject = {"authorization_code": "ac_1", "code_verifier": "v", "code_challenge": "c"}
WAITING = (403, {"error": "authorization_pending"})


@attrs.define(eq=False)
class Terminal:
    """What the person sees."""

    prompts: list[DevicePrompt] = attrs.field(factory=list)
    told: list[str] = attrs.field(factory=list)


def an_issuer(
    *polls: tuple[int, Json] | Exception | float,
    started: tuple[int, Json] | Exception = (200, STARTED),
) -> ScriptedIssuer:
    return ScriptedIssuer(
        {USERCODE: [started], POLL: list(polls), "/oauth/token": [(200, tokens())]}
    )


async def sign_in(issuer: httpx.AsyncBaseTransport, terminal: Terminal | None = None) -> SignedIn:
    terminal = terminal or Terminal()
    return await device_login(
        issuer_url=f"{ISSUER}/",
        transport=issuer,
        wall_clock=lambda: NOW_UNIX_S,
        show=terminal.prompts.append,
        tell=terminal.told.append,
    )


def polled_at(issuer: ScriptedIssuer) -> list[float]:
    """Return when it was asked, in seconds after the sign-in began."""
    began_at_s = issuer.calls[0][2]
    return [at_s - began_at_s for path, _, at_s in issuer.calls if path == POLL]


@in_virtual_time
async def test_the_owner_types_the_code_and_is_signed_in() -> None:
    terminal = Terminal()
    issuer = an_issuer(WAITING, (404, {}), (200, APPROVED))
    signed_in = await sign_in(issuer, terminal)
    assert signed_in.email == "jane.doe@example.com"
    assert terminal.prompts == [
        DevicePrompt(url=f"{ISSUER}/codex/device", user_code="ABCD-EFGHI", expires_in_s=900)
    ]
    assert issuer.paths() == [USERCODE, POLL, POLL, POLL, "/oauth/token"]
    assert orjson.loads(issuer.calls[0][1]) == {"client_id": "app_EMoamEEZ73f0CkXaXp7hrann"}
    assert orjson.loads(issuer.calls[1][1]) == {
        "device_auth_id": "deviceauth_1",
        "user_code": "ABCD-EFGHI",
    }
    assert issuer.form() == {
        "grant_type": "authorization_code",
        "client_id": "app_EMoamEEZ73f0CkXaXp7hrann",
        "code": "ac_1",
        "redirect_uri": f"{ISSUER}/deviceauth/callback",
        "code_verifier": "v",
    }


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [("5", 5), (7, 7), ("2.5", 2.5), (None, 5), ("soon", 5), (0, 5), (-1, 5), (9999, 60)],
)
@in_virtual_time
async def test_the_interval_is_kept(interval: Json, seconds: float) -> None:
    started = STARTED | {"interval": interval}
    issuer = an_issuer(WAITING, WAITING, (200, APPROVED), started=(200, started))
    await sign_in(issuer)
    assert polled_at(issuer) == pytest.approx([seconds, 2 * seconds, 3 * seconds])


@pytest.mark.parametrize(
    "answer", [(400, {"error": "slow_down"}), (403, {"error": {"code": "slow_down"}}), (429, {})]
)
@in_virtual_time
async def test_who_is_asked_to_slow_down_does(answer: tuple[int, Json]) -> None:
    issuer = an_issuer(answer, WAITING, (200, APPROVED))
    await sign_in(issuer)
    assert polled_at(issuer) == pytest.approx([5, 15, 25])


@in_virtual_time
async def test_the_old_name_of_the_code_will_do() -> None:
    terminal = Terminal()
    started = {"device_auth_id": "d", "usercode": "OLD-NAME"}
    await sign_in(an_issuer((200, APPROVED), started=(200, started)), terminal)
    assert terminal.prompts[0].user_code == "OLD-NAME"


@pytest.mark.parametrize(
    ("expires_in_s", "given_up_after_s"),
    [(None, 900), (300, 300), (-60, 900), (30, 900), (1e6, 900)],
    ids=["not said", "said", "clock ahead", "clock a little ahead", "clock behind"],
)
@in_virtual_time
async def test_a_code_that_nobody_types_is_given_up_when_it_runs_out(
    expires_in_s: float | None, given_up_after_s: float
) -> None:
    started = dict(STARTED)
    if expires_in_s is not None:
        ends = datetime.datetime.fromtimestamp(NOW_UNIX_S + expires_in_s, tz=datetime.UTC)
        started["expires_at"] = ends.isoformat()
    began_at_s = trio.current_time()
    with pytest.raises(LoginError, match="run out"):
        await sign_in(an_issuer(WAITING, started=(200, started)))
    assert trio.current_time() - began_at_s == pytest.approx(given_up_after_s)


@pytest.mark.parametrize(
    ("started", "words"),
    [
        pytest.param((404, {"detail": "Not Found"}), "Sign in with a browser", id="not enabled"),
        pytest.param((403, {"error": {"message": "No."}}), "403, No.", id="refused"),
        pytest.param((200, {"user_code": "A"}), "no device code", id="half an answer"),
        pytest.param((200, []), "no device code", id="no object"),
        pytest.param(httpx.ConnectError("x"), "cannot be reached", id="no network"),
    ],
)
@in_virtual_time
async def test_a_sign_in_that_cannot_begin_says_why(
    started: tuple[int, Json] | Exception, words: str
) -> None:
    issuer = an_issuer(WAITING, started=started)
    terminal = Terminal()
    with pytest.raises(LoginError, match=words):
        await sign_in(issuer, terminal)
    assert terminal.prompts == []


@pytest.mark.parametrize(
    ("poll", "words"),
    [
        pytest.param((400, {"error": "expired_token"}), "400, expired_token", id="ran out"),
        pytest.param((401, {}), "refused the device code", id="refused"),
        pytest.param((200, {"authorization_code": "ac_1"}), "incomplete", id="no verifier"),
        pytest.param((200, {}), "incomplete", id="empty"),
        pytest.param((400, {"error": {"message": "deviceauth_1?"}}), r"\(400\)", id="a secret"),
    ],
)
@in_virtual_time
async def test_a_refusal_ends_it(poll: tuple[int, Json], words: str) -> None:
    issuer = an_issuer(WAITING, poll)
    with pytest.raises(LoginError, match=words):
        await sign_in(issuer)
    assert issuer.paths().count(POLL) == 2


@in_virtual_time
async def test_a_network_that_is_away_for_a_moment_is_waited_for() -> None:
    terminal = Terminal()
    troubles = (httpx.ReadError("x"), (502, {}), httpx.ConnectError("x"), CALL_S + 1)
    issuer = an_issuer(*troubles, WAITING, *troubles, (200, APPROVED))
    await sign_in(issuer, terminal)
    assert issuer.paths().count(POLL) == 10
    assert len(terminal.told) == 2


@pytest.mark.parametrize(
    ("trouble", "words"), [(httpx.ConnectError("x"), "cannot be reached"), ((502, {}), "502")]
)
@in_virtual_time
async def test_a_network_that_stays_away_ends_it(
    trouble: tuple[int, Json] | Exception, words: str
) -> None:
    issuer = an_issuer(trouble)
    with pytest.raises(LoginError, match=words):
        await sign_in(issuer)
    assert issuer.paths().count(POLL) == 5


@in_virtual_time
async def test_a_cancel_at_any_step_is_obeyed_at_once() -> None:
    for at in range(1, 100):
        with trio.CancelScope() as scope:
            instrument = CancelAtStep(scope, at)
            trio.lowlevel.add_instrument(instrument)
            try:
                await sign_in(an_issuer(WAITING, (200, APPROVED)))
            finally:
                trio.lowlevel.remove_instrument(instrument)
        if not scope.cancelled_caught:
            assert at > 5
            return
    pytest.fail("it never ended")


async def test_the_simulated_issuer_lets_an_approved_device_in() -> None:
    simulator = Simulator(wall_clock=lambda: NOW_UNIX_S)
    simulator.issuer.sign_ins.interval_s = 0.1
    async with simulated(simulator):
        transport = DirectTransport()
        signed_in = await device_login(
            issuer_url=simulator.issuer_url,
            transport=transport,
            wall_clock=lambda: NOW_UNIX_S,
            show=lambda prompt: simulator.approve("sim-1", prompt.user_code),
            tell=lambda _: None,
        )
        await transport.aclose()
    assert signed_in.workspace_id == simulator.account("sim-1").account_id
    assert signed_in.credentials.refresh_token is not None
