from __future__ import annotations

import attrs
import httpx
import pytest
import trio

from codexrelay.accounts.usage import UsageUnavailableError, fetch_usage, usage_url
from codexrelay.backends.transports.direct import DirectTransport
from codexrelay.protocol.limits import Limits, Window
from codexrelay.protocol.raw import Json, dump
from harness.simulator import Simulator
from tests.fakes.simulated import simulated
from tests.fakes.tokens import an_account
from tests.fakes.wall_clock import NOW_UNIX_S as NOW

BASE = "https://chatgpt.com/backend-api/codex"
SIGN_IN = "sign in again: `codexrelay accounts update work`"


@attrs.define(eq=False)
class FakeBackend(httpx.AsyncBaseTransport):
    """Answers every call with the same thing, an error of the network for one."""

    answer: httpx.Response | Exception
    requests: list[httpx.Request] = attrs.field(factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class BreaksOff(httpx.AsyncByteStream):
    """A body whose connection breaks."""

    closed = False

    async def __aiter__(self):  # noqa: ANN204 - an async generator
        yield b'{"plan_type":'
        raise httpx.ReadError("gone")

    async def aclose(self) -> None:
        self.closed = True


def answers(value: Json, *, status: int = 200) -> FakeBackend:
    return FakeBackend(httpx.Response(status, content=dump(value)))


async def fetch(backend: FakeBackend) -> Limits:
    return await fetch_usage(backend, an_account(), api_base_url=BASE, now_unix_s=NOW)


@pytest.mark.parametrize(
    ("base", "url"),
    [
        (BASE, "https://chatgpt.com/backend-api/wham/usage"),
        (f"{BASE}/", "https://chatgpt.com/backend-api/wham/usage"),
        (
            "http://127.0.0.1:9/sub/backend-api/codex",
            "http://127.0.0.1:9/sub/backend-api/wham/usage",
        ),
        ("https://proxy.example/v1", "https://proxy.example/api/codex/usage"),
        ("http://[::1]:80", "http://[::1]:80/api/codex/usage"),
        (
            "https://x.example/backend-api/codex/v2?key=1",
            "https://x.example/api/codex/usage",
        ),
    ],
)
def test_the_usage_is_asked_for_beside_the_model(base: str, url: str) -> None:
    assert usage_url(base) == url


async def test_the_answer_is_read_as_limits() -> None:
    backend = answers(
        {
            "plan_type": "plus",
            "rate_limit": {
                "limit_reached": False,
                "primary_window": {"used_percent": 12, "limit_window_seconds": 18000},
            },
        }
    )
    assert await fetch(backend) == Limits(
        observed_unix_s=NOW,
        plan_type="plus",
        primary=Window(used_percent=12.0, length_s=18_000.0),
        reached=False,
    )
    (request,) = backend.requests
    assert (request.method, str(request.url)) == ("GET", usage_url(BASE))
    assert request.headers["authorization"] == "Bearer access-1"
    assert request.headers["chatgpt-account-id"] == "workspace-of-work"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"].startswith("codexrelay/")
    assert "x-openai-fedramp" not in request.headers


async def test_an_account_without_a_workspace_id_sends_none() -> None:
    backend = answers({"rate_limit": {"allowed": True}})
    account = attrs.evolve(an_account(), workspace_id=None, fedramp=True)
    await fetch_usage(backend, account, api_base_url=BASE, now_unix_s=NOW)
    assert "chatgpt-account-id" not in backend.requests[0].headers
    assert backend.requests[0].headers["x-openai-fedramp"] == "true"


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        pytest.param(
            401,
            {"error": {"code": "token_expired", "message": "Token expired"}},
            f"the backend answered 401: Token expired; {SIGN_IN}",
            id="401",
        ),
        pytest.param(401, None, f"the backend answered 401: null; {SIGN_IN}", id="401, no words"),
        pytest.param(
            403,
            {"detail": "Forbidden here"},
            "the backend answered 403: Forbidden here",
            id="403",
        ),
        pytest.param(
            402,
            {"detail": {"code": "deactivated_workspace"}},
            "the backend answered 402",
            id="no message",
        ),
        pytest.param(
            404, {"detail": "Not Found"}, "the backend answered 404: Not Found", id="elsewhere"
        ),
        pytest.param(302, {}, "the backend answered 302", id="redirect"),
        pytest.param(503, {}, "the backend answered 503", id="busy"),
        pytest.param(200, {}, "the backend answered 200, but with no word on limits", id="empty"),
        pytest.param(200, [1], "the backend answered 200, but with no word on limits", id="list"),
    ],
)
async def test_any_other_answer_is_an_error_that_says_what_to_do(
    status: int, body: Json, told: str
) -> None:
    with pytest.raises(UsageUnavailableError) as caught:
        await fetch(answers(body, status=status))
    assert caught.value.status == status
    assert str(caught.value).startswith(f"the usage of account work is not known: {told}")
    assert "access-1" not in repr(caught.value)


async def test_a_legacy_account_signs_in_with_codex_itself() -> None:
    account = an_account("codex-cli", origin="legacy")
    with pytest.raises(UsageUnavailableError, match="sign in again: `codex login`"):
        await fetch_usage(answers({}, status=401), account, api_base_url=BASE, now_unix_s=NOW)


async def test_an_answer_beyond_all_bounds_is_not_kept() -> None:
    endless = answers({"rate_limit": {"allowed": True}, "padding": "x" * (1 << 20)})
    with pytest.raises(UsageUnavailableError, match="no word on limits"):
        await fetch(endless)


@pytest.mark.parametrize(
    "trouble", [httpx.ConnectError("refused"), httpx.ReadError("reset"), httpx.ConnectTimeout("")]
)
async def test_a_connection_that_fails_is_told(trouble: Exception) -> None:
    with pytest.raises(UsageUnavailableError) as caught:
        await fetch(FakeBackend(trouble))
    kind = type(trouble).__name__
    assert caught.value.why == f"the connection to chatgpt.com failed ({kind})"
    assert caught.value.status is None


async def test_an_answer_that_breaks_off_is_told_and_closed() -> None:
    body = BreaksOff()
    with pytest.raises(UsageUnavailableError, match=r"failed \(ReadError\)"):
        await fetch(FakeBackend(httpx.Response(200, stream=body)))
    assert body.closed


async def test_a_caller_that_leaves_closes_the_answer() -> None:
    class Hangs(BreaksOff):
        async def __aiter__(self):  # noqa: ANN204 - an async generator
            await trio.sleep_forever()
            yield b""

    body = Hangs()
    with trio.move_on_after(0) as scope:
        await fetch(FakeBackend(httpx.Response(200, stream=body)))
    assert scope.cancelled_caught
    assert body.closed


async def test_a_real_connection_brings_what_the_backend_counts() -> None:
    simulator = Simulator()
    async with simulated(simulator) as signed_in:
        name = signed_in.account
        account = attrs.evolve(
            an_account(name, token=simulator.tokens(name).access_token),
            workspace_id=simulator.account(name).account_id,
        )
        transport = DirectTransport()
        try:
            limits = await fetch_usage(
                transport, account, api_base_url=simulator.api_base_url, now_unix_s=NOW
            )
            revoked = an_account(name, token="revoked")
            with pytest.raises(UsageUnavailableError, match="accounts update"):
                await fetch_usage(
                    transport, revoked, api_base_url=simulator.api_base_url, now_unix_s=NOW
                )
        finally:
            await transport.aclose()
    assert limits.secondary is not None
    assert (limits.secondary.used_percent, limits.secondary.length_s) == (41.0, 604_800.0)
    assert limits.reached is False
