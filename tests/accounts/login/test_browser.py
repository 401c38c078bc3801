"""The whole sign-in with a browser: sockets on our side, an issuer in memory or the simulator."""

from __future__ import annotations

import threading
import urllib.parse

import httpx
import pytest
import trio

from codexrelay.accounts.login.browser import browser_login
from codexrelay.backends.transports.direct import DirectTransport
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes.cancel_at_step import CancelAtStep
from tests.fakes.login import (
    ISSUER,
    Person,
    ScriptedIssuer,
    counting_bytes,
    signing_in,
    tokens,
)
from tests.fakes.no_tls import NO_TLS
from tests.fakes.scripted_server import always_answering, serving
from tests.fakes.simulated import simulated
from tests.fakes.wall_clock import NOW_UNIX_S

CODE = "ac_0123456789"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


def granting() -> ScriptedIssuer:
    return ScriptedIssuer({"/oauth/token": [(200, tokens())]})


async def get(url: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
        return await http.get(url, headers=headers)


async def callback(person: Person, **fields: str) -> str:
    """Return the address that the issuer would send the browser to."""
    query = await person.query()
    fields = {"code": CODE, "state": query["state"]} | fields
    return f"{query['redirect_uri']}?{urllib.parse.urlencode(fields)}"


async def raw(port: int, data: bytes) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(data)
        answer = b""
        while block := await stream.receive_some():
            answer += block
        return answer


async def port_of(person: Person) -> int:
    return urllib.parse.urlsplit((await person.query())["redirect_uri"]).port or 0


async def is_refused(port: int) -> bool:
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return True
    await stream.aclose()
    return False


async def test_the_browser_comes_back_and_the_owner_is_signed_in() -> None:
    issuer = granting()
    async with signing_in(issuer) as person:
        page = await get(await callback(person))
    assert page.status_code == 200
    assert "close this window" in page.text
    assert person.signed_in is not None
    assert person.signed_in.email == "jane.doe@example.com"
    query = await person.query()
    assert issuer.form()["code"] == CODE
    assert issuer.form()["redirect_uri"] == query["redirect_uri"]
    assert query["redirect_uri"].startswith("http://localhost:")


async def test_the_page_keeps_the_code_to_itself() -> None:
    async with signing_in(granting()) as person:
        page = await get(await callback(person))
    assert CODE not in page.text
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
async def test_every_name_of_this_machine_will_do(host: str) -> None:
    async with signing_in(granting()) as person:
        port = await port_of(person)
        target = (await callback(person)).partition(f":{port}")[2]
        request = f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
        assert (await raw(port, request.encode())).startswith(b"HTTP/1.1 200 ")
    assert person.signed_in is not None


@pytest.mark.parametrize(
    "fields",
    [{"state": "another"}, {"state": ""}, {"error": "access_denied", "state": "x"}, {"code": ""}],
)
async def test_a_strange_answer_is_refused_and_the_right_one_waited_for(
    fields: dict[str, str],
) -> None:
    issuer = granting()
    async with signing_in(issuer) as person:
        strange = await get(await callback(person, **fields))
        assert strange.status_code == 400
        assert issuer.calls == []
        assert (await get(await callback(person))).status_code == 200
    assert person.signed_in is not None


async def test_a_refusal_by_the_issuer_is_shown_and_ends_it() -> None:
    issuer = granting()
    async with signing_in(issuer) as person:
        page = await get(
            await callback(person, error="access_denied", error_description="no <b>seat</b>")
        )
    assert page.status_code == 400
    assert "access_denied: no &lt;b&gt;seat&lt;/b&gt;" in page.text
    assert person.failed is not None
    assert "access_denied: no <b>seat</b>" in person.failed
    assert issuer.calls == []


async def test_a_code_that_is_refused_is_told_in_the_browser_too() -> None:
    issuer = ScriptedIssuer({"/oauth/token": [(400, {"error": "invalid_grant"})]})
    async with signing_in(issuer) as person:
        page = await get(await callback(person))
    assert page.status_code == 400
    assert "Not signed in" in page.text
    assert person.failed is not None
    assert "invalid_grant" in page.text
    assert "invalid_grant" in person.failed


async def test_only_the_first_code_counts() -> None:
    issuer = granting()
    issuer.gate = trio.Event()
    async with signing_in(issuer, pasting=True) as person, trio.open_nursery() as nursery:
        nursery.start_soon(get, await callback(person))
        while not issuer.calls:
            await trio.testing.wait_all_tasks_blocked()
        await person.paste("ac_second-code")
        await trio.testing.wait_all_tasks_blocked()
        issuer.gate.set()
    assert [issuer.form(number)["code"] for number in range(len(issuer.calls))] == [CODE]
    assert person.signed_in is not None


@pytest.mark.parametrize(
    ("request_line", "host", "status"),
    [
        pytest.param("GET / HTTP/1.1", "localhost:{port}", 404, id="other path"),
        pytest.param("GET /auth/callback/ HTTP/1.1", "localhost:{port}", 404, id="longer path"),
        pytest.param("GET /cancel HTTP/1.1", "localhost:{port}", 404, id="cancel"),
        pytest.param("POST {target} HTTP/1.1", "localhost:{port}", 404, id="other method"),
        pytest.param("GET {target} HTTP/1.1", "evil.example:{port}", 403, id="other name"),
        pytest.param("GET {target} HTTP/1.1", "localhost", 403, id="no port"),
        pytest.param("GET {target} HTTP/1.1", "localhost:1", 403, id="other port"),
        pytest.param(
            "GET {target} HTTP/1.1", "localhost:{port}\r\nHost: evil", 400, id="two names"
        ),
        pytest.param("GET {target} HTTP/2.0", "localhost:{port}", 400, id="other version"),
        pytest.param("nonsense", "localhost:{port}", 400, id="no request"),
    ],
)
async def test_nothing_else_is_answered(request_line: str, host: str, status: int) -> None:
    issuer = granting()
    async with signing_in(issuer) as person:
        port = await port_of(person)
        target = (await callback(person)).partition(f":{port}")[2]
        head = f"{request_line}\r\nHost: {host}\r\n\r\n".format(port=port, target=target)
        answer = await raw(port, head.encode())
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert issuer.calls == []
        await get(await callback(person))
    assert person.signed_in is not None


@pytest.mark.parametrize("data", [b"", b"GET /auth", b"x" * 20_000, b"\r\n\r\n"])
async def test_a_visitor_without_manners_does_not_end_it(data: bytes) -> None:
    async with signing_in(granting()) as person:
        port = await port_of(person)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(data)
        await stream.aclose()
        await get(await callback(person))
    assert person.signed_in is not None


async def test_the_listener_is_gone_when_the_sign_in_is() -> None:
    async with signing_in(granting()) as person:
        port = await port_of(person)
        assert not await is_refused(port)
        await get(await callback(person))
    assert await is_refused(port)


async def test_a_browser_that_fetches_no_page_does_not_hold_it_up() -> None:
    async with signing_in(granting()) as person:
        port = await port_of(person)
        target = (await callback(person)).partition(f":{port}")[2]
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(f"GET {target} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
        await stream.aclose()
    assert person.signed_in is not None


async def test_a_browser_is_opened_at_the_address() -> None:
    opened: list[str] = []
    async with signing_in(granting(), open_browser=lambda url: not opened.append(url)) as person:
        await get(await callback(person))
    assert opened == person.urls
    assert person.told == []


async def test_without_a_browser_the_address_is_to_be_opened_by_hand() -> None:
    async with signing_in(granting(), open_browser=lambda _: False) as person:
        while not person.told:
            await trio.testing.wait_all_tasks_blocked()
        await get(await callback(person))
    assert "open the address above" in person.told[0]
    assert person.signed_in is not None


async def test_a_browser_in_the_terminal_is_not_waited_for() -> None:
    leave = threading.Event()
    try:
        async with signing_in(granting(), open_browser=lambda _: leave.wait(60)) as person:
            await get(await callback(person))
        assert person.signed_in is not None
    finally:
        leave.set()


@pytest.mark.parametrize("form", ["{callback}", "{code}", "{query}"])
async def test_the_address_or_the_code_may_be_pasted(form: str) -> None:
    issuer = granting()
    async with signing_in(issuer, pasting=True) as person:
        url = await callback(person)
        await person.paste(form.format(callback=url, code=CODE, query=url.partition("?")[2]) + "\n")
    assert person.signed_in is not None
    assert issuer.form()["code"] == CODE
    assert await is_refused(await port_of(person))


async def test_a_bad_paste_is_told_and_asked_for_again() -> None:
    async with signing_in(granting(), pasting=True) as person:
        await person.paste("what?")
        await person.paste("\n")
        await person.paste(await callback(person, state="another"))
        await person.paste(CODE)
    assert len(person.told) == 2
    assert "neither an address" in person.told[0]
    assert "another sign-in" in person.told[1]
    assert person.signed_in is not None


async def test_the_browser_may_come_back_while_a_paste_is_waited_for() -> None:
    async with signing_in(granting(), pasting=True) as person:
        await get(await callback(person))
    assert person.signed_in is not None


async def test_the_browser_may_come_back_when_the_input_has_ended() -> None:
    async with signing_in(granting(), pasting=True) as person:
        person.end_input()
        await trio.testing.wait_all_tasks_blocked()
        await get(await callback(person))
    assert person.signed_in is not None


async def test_pasting_goes_on_where_the_port_is_taken() -> None:
    issuer = granting()
    async with serving(always_answering(NOT_FOUND)) as other:
        port = int(other.url.rpartition(":")[2])
        async with signing_in(issuer, port=port, pasting=True) as person:
            assert await port_of(person) == port
            await person.paste(await callback(person))
    assert person.signed_in is not None
    assert f"Port {port} is not free" in person.told[0]
    assert issuer.form()["redirect_uri"] == f"http://localhost:{port}/auth/callback"


async def test_without_port_and_without_input_there_is_no_way() -> None:
    async with serving(always_answering(NOT_FOUND)) as other:
        port = int(other.url.rpartition(":")[2])
        async with signing_in(granting(), port=port, pasting=True) as person:
            person.end_input()
        assert person.failed is not None
        assert "nothing was pasted" in person.failed
        async with signing_in(granting(), port=port) as person:
            pass
        assert person.failed is not None
        assert "--device" in person.failed
    assert person.urls == []


async def sign_in_unattended(person: Person, issuer: ScriptedIssuer) -> None:
    await browser_login(
        issuer_url=ISSUER,
        transport=issuer,
        wall_clock=lambda: NOW_UNIX_S,
        random_bytes=counting_bytes,
        show_url=person.see_url,
        tell=person.told.append,
        open_browser=None,
        read_pasted=person.read_pasted,
        port=0,
    )


async def tasks() -> int:
    """Count the tasks of the test once those that are about to end have ended."""
    await trio.testing.wait_all_tasks_blocked()
    return trio.lowlevel.current_statistics().tasks_living


@pytest.mark.parametrize("how", ["browser", "paste"])
async def test_a_cancel_at_any_step_leaves_no_task_and_no_port(how: str) -> None:
    async def come_back(person: Person) -> None:
        url = await callback(person)
        if how == "paste":
            return await person.paste(url)
        port = await port_of(person)
        target = url.partition(f":{port}")[2]
        request = f"GET {target} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(request.encode())
            await stream.receive_some()
        return None

    before = await tasks()
    with trio.fail_after(60):
        for at in range(1, 1000):
            person = Person()
            done = False
            with trio.CancelScope() as scope:
                instrument = CancelAtStep(scope, at)
                trio.lowlevel.add_instrument(instrument)
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(come_back, person)
                        await sign_in_unattended(person, granting())
                        done = True
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            assert await tasks() == before
            if person.urls:
                assert await is_refused(await port_of(person))
            if done and not scope.cancelled_caught:
                assert at > 10
                return
    pytest.fail("it never ended")


@pytest.mark.parametrize("hint", [None, "sim-2", "sim.2@example.com"])
async def test_the_simulated_issuer_lets_the_hinted_account_in(hint: str | None) -> None:
    simulator = Simulator(accounts=some_accounts(2), wall_clock=lambda: NOW_UNIX_S)
    async with simulated(simulator) as client:
        transport = DirectTransport()
        async with signing_in(
            transport, issuer_url=simulator.issuer_url, login_hint=hint
        ) as person:
            page = await client.http.get(await person.url(), follow_redirects=True)
        await transport.aclose()
    assert page.status_code == 200, person.failed
    signed_in = person.signed_in
    assert signed_in is not None
    account = simulator.account("sim-2" if hint else "sim-1")
    assert (signed_in.workspace_id, signed_in.user_id) == (account.account_id, account.user_id)
    assert signed_in.email == account.email
    assert signed_in.credentials.expires_at_unix_s == NOW_UNIX_S + 864_000


async def test_no_repr_shows_a_token() -> None:
    async with signing_in(granting()) as person:
        await get(await callback(person))
    assert person.signed_in is not None
    assert "rt_1" not in repr(person.signed_in)
