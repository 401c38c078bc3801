from __future__ import annotations

import contextlib
import errno
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import attrs
import httpx
import pytest
import structlog
import structlog.testing
import trio
import trio.lowlevel
import trio.testing

from codexrelay.accounts.account import Account, Credentials
from codexrelay.accounts.files import Locks
from codexrelay.accounts.issuer import Issuer
from codexrelay.accounts.legacy import LEGACY_ID, LegacyStore
from codexrelay.accounts.refresh import (
    CLOSING_S,
    LAST_MOMENT_S,
    MAX_BACK_OFF_S,
    MAX_UNKNOWN_BACK_OFF_S,
    MIN_UNKNOWN_REFUSALS,
    MIN_UNKNOWN_S,
    QUEUE_S,
    REFRESH_BUDGET_S,
    Memory,
    Outcome,
    Refresher,
    RefreshResult,
    back_off_s,
)
from codexrelay.accounts.sent_mark import SentMark
from codexrelay.accounts.store import AccountStore
from codexrelay.accounts.turnstile import Turnstile
from codexrelay.accounts.wire import CONNECT_S
from codexrelay.backends.transports.connection import Origin
from codexrelay.backends.transports.direct import DirectTransport
from codexrelay.backends.transports.proxy import Proxy
from codexrelay.protocol.raw import dump
from tests.fakes.issuer import FakeIssuer, Trouble
from tests.fakes.scripted_server import serving
from tests.fakes.tokens import an_account, write_account
from tests.fakes.wall_clock import NOW_UNIX_S as NOW
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codexrelay.accounts.issuer import RefreshReason
    from codexrelay.accounts.refresh import TokenFiles
    from tests.fakes.scripted_server import Caller


class Hasty(Random):
    """Draws pauses of no length."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


async def until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds, which threads bring about; trio's clock may stand still."""
    for _ in range(10_000):
        if condition():
            return
        await trio.to_thread.run_sync(time.sleep, 0.001)
    raise AssertionError("it never came about")


@attrs.define(eq=False)
class FullDisk:
    """A store whose next saves fail."""

    store: AccountStore
    failures: int = 1

    def read(self, account_id: str) -> Account | None:
        return self.store.read(account_id)

    def save_credentials(
        self,
        account_id: str,
        credentials: Credentials,
        *,
        expected_refresh_token: str,
        now_unix_s: float,
    ) -> Account:
        if self.failures:
            self.failures -= 1
            raise OSError(28, "No space left on device")
        return self.store.save_credentials(
            account_id,
            credentials,
            expected_refresh_token=expected_refresh_token,
            now_unix_s=now_unix_s,
        )

    def mark_needs_reauth(self, account_id: str, reason: str, *, refresh_token: str) -> Account:
        return self.store.mark_needs_reauth(account_id, reason, refresh_token=refresh_token)

    def flight_lock(self, account_id: str) -> Locks:
        return self.store.flight_lock(account_id)

    def size_bytes(self, account_id: str) -> int:
        return self.store.size_bytes(account_id)


@attrs.define(eq=False)
class Scene:
    """A store with the account `work`, its issuer, and a refresher."""

    folder: Path
    nursery: trio.Nursery
    clock: WallClock = attrs.field(factory=WallClock)
    issuer: FakeIssuer = attrs.field(init=False)
    store: AccountStore = attrs.field(init=False)
    refresher: Refresher = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.issuer = FakeIssuer(self.clock)
        self.store = AccountStore(self.folder)
        self.refresher = self.another_process()
        self.sign_in()

    def another_process(
        self,
        *,
        files: TokenFiles | None = None,
        nursery: trio.Nursery | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        url: str = "http://issuer.invalid",
    ) -> Refresher:
        """Return a refresher that shares nothing but the files and the issuer."""
        return Refresher(
            nursery=nursery or self.nursery,
            issuer=Issuer(url=url, transport=transport or self.issuer),
            files={"managed": files or AccountStore(self.folder)},
            wall_clock=self.clock,
            rng=Hasty(),
        )

    def sign_in(self, account_id: str = "work", *, lifetime_s: float = 3600.0) -> None:
        pair = self.issuer.sign_in(f"workspace-{account_id}", lifetime_s=lifetime_s)
        write_account(self.folder, account_id, pair)

    def account(self, account_id: str = "work") -> Account:
        """The account as it is stored."""
        account = self.store.read(account_id)
        assert account is not None
        return account

    async def refresh(self, *, reason: RefreshReason = "proactive_expiry") -> RefreshResult:
        return await self.refresher.refresh(self.account(), reason=reason)

    @property
    def calls(self) -> int:
        return len(self.issuer.calls)

    async def until_queueing(self) -> None:
        """Return once a flight waits for its turn to call."""
        for _ in range(10_000):
            if self.refresher.turnstile.waiting:
                return
            await trio.lowlevel.checkpoint()
            await trio.to_thread.run_sync(time.sleep, 0.001)
        raise AssertionError("no flight waits")

    @property
    def mark(self) -> SentMark:
        """What says on disk that the token was sent."""
        return SentMark.beside(self.store.flight_lock("work"))

    @property
    def turnstile(self) -> Locks:
        """The lock that processes hold while they call for any account."""
        return Locks((self.folder / ".issuer.lock",))


@pytest.fixture
async def scene(tmp_path: Path, nursery: trio.Nursery) -> Scene:
    return Scene(tmp_path, nursery)


async def test_a_refreshed_account_is_on_disk_when_it_is_told(scene: Scene) -> None:
    old = scene.account()
    result = await scene.refresh()
    assert result.outcome is Outcome.RENEWED
    assert result.account == scene.account()
    assert result.account.credentials != old.credentials
    assert scene.issuer.takes(result.account.credentials.access_token)


@pytest.mark.parametrize("reason", ["proactive_expiry", "unauthorized_recovery"])
async def test_the_issuer_is_told_the_reason(scene: Scene, reason: RefreshReason) -> None:
    await scene.refresh(reason=reason)
    assert [call["refresh_reason"] for call in scene.issuer.calls] == [reason]


async def test_a_forced_refresh_really_refreshes_whatever_the_clock_says(scene: Scene) -> None:
    for count in range(1, 4):
        result = await scene.refresh(reason="unauthorized_recovery")
        assert (result.outcome, scene.calls) == (Outcome.RENEWED, count)


async def test_fifty_waiters_share_one_call(scene: Scene) -> None:
    account = scene.account()
    results: list[RefreshResult] = []

    async def wait() -> None:
        results.append(await scene.refresher.refresh(account, reason="proactive_expiry"))

    async with trio.open_nursery() as waiters:
        for _ in range(50):
            waiters.start_soon(wait)
    assert scene.calls == 1
    assert len(results) == 50
    assert {id(result) for result in results} == {id(results[0])}


async def test_the_first_waiter_may_leave_without_cancelling_the_flight(scene: Scene) -> None:
    scene.issuer.gate = trio.Event()
    account = scene.account()
    async with trio.open_nursery() as first:
        first.start_soon(lambda: scene.refresher.refresh(account, reason="proactive_expiry"))
        await scene.issuer.wait_for_calls(1)
        first.cancel_scope.cancel()
    second: list[RefreshResult] = []
    async with trio.open_nursery() as waiters:

        @waiters.start_soon
        async def _() -> None:
            second.append(await scene.refresher.refresh(account, reason="proactive_expiry"))

        await trio.testing.wait_all_tasks_blocked()
        scene.issuer.gate.set()
    assert [result.outcome for result in second] == [Outcome.RENEWED]
    assert scene.calls == 1


async def test_a_flight_nobody_waits_for_is_finished_and_stored(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            scene = Scene(tmp_path, nursery)
            scene.issuer.gate = trio.Event()
            with trio.CancelScope() as leaving:
                nursery.start_soon(_cancel_after_call, scene.issuer, leaving)
                await scene.refresh()
            assert leaving.cancelled_caught
            scene.issuer.gate.set()
        assert scene.issuer.takes(scene.account().credentials.access_token)
        assert scene.account().credentials.refresh_token == "rt_2"


async def _cancel_after_call(issuer: FakeIssuer, scope: trio.CancelScope) -> None:
    await issuer.wait_for_calls(1)
    scope.cancel()


async def test_a_call_under_way_when_the_relay_is_stopped_still_stores_its_pair(
    tmp_path: Path,
) -> None:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            scene = Scene(tmp_path, nursery)
            scene.issuer.gate = trio.Event()
            nursery.start_soon(scene.refresh)
            await scene.issuer.wait_for_calls(1)
            nursery.cancel_scope.cancel()
            scene.issuer.gate.set()
    assert scene.account().credentials.refresh_token == "rt_2"


async def test_a_call_that_hangs_when_the_relay_is_stopped_is_cut_short(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        scene = Scene(tmp_path, nursery)
        scene.issuer.troubles = [Trouble.HANGS]
        nursery.start_soon(scene.refresh)
        await scene.issuer.wait_for_calls(1)
        scene.refresher.close()
        nursery.cancel_scope.cancel()
        mock_clock.jump(CLOSING_S)
    assert trio.current_time() < REFRESH_BUDGET_S


async def test_no_call_begins_once_the_relay_is_being_stopped(scene: Scene) -> None:
    scene.refresher.close()
    assert (await scene.refresh()).outcome is Outcome.POSTPONED
    assert scene.calls == 0


async def test_a_pair_that_another_process_has_stored_is_adopted_without_a_call(
    scene: Scene,
) -> None:
    old = scene.account()
    scene.sign_in()
    result = await scene.refresher.refresh(old, reason="unauthorized_recovery")
    assert (result.outcome, result.account) == (Outcome.ADOPTED, scene.account())
    assert scene.calls == 0


async def test_two_processes_make_one_call_for_each_expiry_and_nobody_is_signed_out(
    scene: Scene,
) -> None:
    processes = [scene.another_process(), scene.another_process()]
    for expiry in range(1, 16):
        account = scene.account()
        results: list[RefreshResult] = []

        async def refresh(
            process: Refresher, account: Account = account, results: list[RefreshResult] = results
        ) -> None:
            results.append(await process.refresh(account, reason="proactive_expiry"))

        with trio.fail_after(30):
            async with trio.open_nursery() as waiters:
                for process in processes:
                    waiters.start_soon(refresh, process)
        assert scene.calls == expiry
        assert {result.outcome for result in results} == {Outcome.RENEWED, Outcome.ADOPTED}
        assert {result.account for result in results} == {scene.account()}
        assert scene.issuer.takes(scene.account().credentials.access_token)


async def test_siblings_are_refreshed_one_at_a_time(scene: Scene) -> None:
    scene.sign_in("home")
    scene.issuer.gate = trio.Event()
    async with trio.open_nursery() as waiters:
        for name in ("work", "home"):
            account = scene.account(name)
            waiters.start_soon(
                lambda account=account: scene.refresher.refresh(account, reason="proactive_expiry")
            )
        await scene.issuer.wait_for_calls(1)
        await scene.until_queueing()
        assert scene.calls == 1
        scene.issuer.gate.set()
    assert scene.calls == 2


async def test_no_other_process_calls_while_one_does(scene: Scene) -> None:
    scene.issuer.gate = trio.Event()
    async with trio.open_nursery() as waiters:
        waiters.start_soon(scene.refresh)
        await scene.issuer.wait_for_calls(1)
        assert not scene.turnstile.try_acquire()
        scene.issuer.gate.set()
    free = scene.turnstile
    assert free.try_acquire()
    free.release()


async def test_whoever_waits_too_long_for_other_accounts_sends_nothing_and_may_ask_again_at_once(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    inside = scene.turnstile
    assert inside.try_acquire()
    results: list[RefreshResult] = []

    async def refresh() -> None:
        results.append(await scene.refresh())

    async with trio.open_nursery() as waiters:
        waiters.start_soon(refresh)
        await scene.until_queueing()
        mock_clock.jump(QUEUE_S)
    assert [(r.outcome, r.why) for r in results] == [
        (Outcome.POSTPONED, "the refreshes of other accounts take too long")
    ]
    assert scene.calls == 0
    assert not scene.mark.path.exists()
    inside.release()
    assert (await scene.refresh()).outcome is Outcome.RENEWED


async def test_whoever_waits_for_other_accounts_when_the_relay_is_stopped_ends_at_once(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    inside = scene.turnstile
    assert inside.try_acquire()
    results: list[RefreshResult] = []

    async def refresh() -> None:
        results.append(await scene.refresh())

    async with trio.open_nursery() as waiters:
        waiters.start_soon(refresh)
        await scene.until_queueing()
        scene.refresher.close()
        try:
            await until(lambda: bool(results))
        finally:
            mock_clock.jump(QUEUE_S)  # if it waits still, it ends now and the test has failed
    inside.release()
    assert [(r.outcome, r.why) for r in results] == [
        (Outcome.POSTPONED, "the relay is being stopped")
    ]
    assert scene.calls == 0


async def test_refreshers_of_two_folders_in_one_process_call_one_at_a_time(
    scene: Scene, tmp_path: Path
) -> None:
    other = Scene(tmp_path / "second", scene.nursery)
    other.refresher = attrs.evolve(other.refresher, turnstile=scene.refresher.turnstile)
    scene.issuer.gate = trio.Event()
    async with trio.open_nursery() as waiters:
        waiters.start_soon(scene.refresh)
        await scene.issuer.wait_for_calls(1)
        waiters.start_soon(other.refresh)
        await scene.until_queueing()
        assert other.calls == 0
        scene.issuer.gate.set()
    assert other.calls == 1


async def test_codex_clis_account_meets_nobody_and_leaves_no_lock_of_ours_in_its_folder(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    scene = Scene(tmp_path / "store", nursery)
    pair = scene.issuer.sign_in("w")
    folder = tmp_path / ".codex"
    folder.mkdir()
    tokens = {"access_token": pair.access_token, "refresh_token": pair.refresh_token}
    (folder / "auth.json").write_bytes(dump({"tokens": tokens}))
    legacy = LegacyStore((folder,))
    refresher = attrs.evolve(scene.refresher, files={"legacy": legacy})
    account = legacy.read(LEGACY_ID)
    assert account is not None
    result = await refresher.refresh(account, reason="proactive_expiry")
    assert result.outcome is Outcome.RENEWED
    assert {path.name for path in folder.iterdir()} == {"auth.json", "auth.lock", "auth.json.lock"}


async def test_a_dead_token_marks_the_account_with_the_issuers_code(scene: Scene) -> None:
    dead = scene.account().credentials
    live = scene.issuer._answer(dead.refresh_token or "")  # somebody spends it elsewhere
    assert live.status_code == 200
    result = await scene.refresh()
    assert (result.outcome, result.why) == (Outcome.NEEDS_REAUTH, "refresh_token_reused")
    assert scene.account().needs_reauth == "refresh_token_reused"
    assert scene.account().credentials == dead
    await scene.refresh()
    assert scene.calls == 1


async def test_a_refusal_never_marks_a_pair_that_was_stored_meanwhile(scene: Scene) -> None:
    old = scene.account()
    scene.issuer._answer(old.credentials.refresh_token or "")
    scene.issuer.gate = trio.Event()
    results: list[RefreshResult] = []

    async def refresh() -> None:
        results.append(await scene.refresher.refresh(old, reason="proactive_expiry"))

    async with trio.open_nursery() as waiters:
        waiters.start_soon(refresh)
        await scene.issuer.wait_for_calls(1)
        scene.sign_in()  # the owner signs in while the call is under way
        scene.issuer.gate.set()
    assert [result.outcome for result in results] == [Outcome.ADOPTED]
    assert scene.account().needs_reauth is None
    assert results[0].account == scene.account()


async def test_a_new_pair_never_replaces_a_sign_in_that_happened_meanwhile(scene: Scene) -> None:
    scene.issuer.gate = trio.Event()
    results: list[RefreshResult] = []

    async def refresh() -> None:
        results.append(await scene.refresh())

    async with trio.open_nursery() as waiters:
        waiters.start_soon(refresh)
        await scene.issuer.wait_for_calls(1)
        scene.sign_in()
        signed_in = scene.account()
        scene.issuer.gate.set()
    assert scene.account() == signed_in
    assert [(r.outcome, r.account) for r in results] == [(Outcome.ADOPTED, signed_in)]


async def test_an_unknown_code_is_tried_for_a_good_while_and_then_given_up(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    scene.issuer.troubles = [Trouble.ODD_CODE] * 20
    waits: list[float] = []
    while (
        result := await scene.refresh(reason="unauthorized_recovery")
    ).outcome is Outcome.POSTPONED:
        waits.append(min(2.0 ** len(waits), MAX_UNKNOWN_BACK_OFF_S))
        assert result.why == (
            "the sign-in service refused it with an unknown code (moon_in_the_wrong_phase); "
            "check the network, the VPN or proxy, and the region it comes out in; "
            f"tried again in {waits[-1]:.0f} s"
        )
        mock_clock.jump(waits[-1] - 0.5)
        await scene.refresh(reason="unauthorized_recovery")
        assert scene.calls == len(waits)
        mock_clock.jump(0.5)
    assert (result.outcome, result.why) == (Outcome.NEEDS_REAUTH, "moon_in_the_wrong_phase")
    assert sum(waits[:-1]) < MIN_UNKNOWN_S <= sum(waits)


async def test_an_unknown_code_costs_no_account_before_it_has_come_often(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    scene.issuer.troubles = [Trouble.ODD_CODE] * MIN_UNKNOWN_REFUSALS
    for _ in range(MIN_UNKNOWN_REFUSALS - 1):
        assert (await scene.refresh(reason="unauthorized_recovery")).outcome is Outcome.POSTPONED
        mock_clock.jump(MIN_UNKNOWN_S)
    assert (await scene.refresh(reason="unauthorized_recovery")).outcome is Outcome.NEEDS_REAUTH


async def test_an_unknown_code_costs_no_account_while_its_access_token_lives(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    scene.issuer.troubles = [Trouble.ODD_CODE] * 9
    scene.clock.now_unix_s += 3599.0
    for _ in range(8):
        assert (await scene.refresh()).outcome is Outcome.POSTPONED
        mock_clock.jump(MIN_UNKNOWN_S)
    scene.clock.now_unix_s += 1.0
    assert (await scene.refresh()).outcome is Outcome.NEEDS_REAUTH
    assert scene.calls == 9


async def test_a_block_of_the_region_marks_no_account_however_long_it_lasts(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    blocked = httpx.Response(403, json={"error": {"code": "unsupported_country_region_territory"}})
    transport = httpx.MockTransport(lambda _: blocked)
    behind_a_vpn = scene.another_process(transport=transport)
    scene.clock.now_unix_s += 7200.0
    for _ in range(MIN_UNKNOWN_REFUSALS + 1):
        result = await behind_a_vpn.refresh(scene.account(), reason="unauthorized_recovery")
        assert result.outcome is Outcome.POSTPONED
        assert "unsupported_country_region_territory" in result.why
        assert "tried again in" in result.why
        mock_clock.jump(MIN_UNKNOWN_S)
    assert (await scene.refresh()).outcome is Outcome.RENEWED  # at home again


@pytest.mark.parametrize("trouble", [Trouble.UNREACHABLE, Trouble.BUSY])
async def test_a_passing_failure_is_tried_again_only_after_the_back_off(
    scene: Scene, mock_clock: trio.testing.MockClock, trouble: Trouble
) -> None:
    scene.issuer.troubles = [trouble]
    old = scene.account()
    assert (await scene.refresh()).outcome is Outcome.POSTPONED
    calls = scene.calls
    assert (await scene.refresh(reason="unauthorized_recovery")).outcome is Outcome.POSTPONED
    assert scene.calls == calls
    assert scene.account() == old
    mock_clock.jump(back_off_s(1))
    assert (await scene.refresh()).outcome is Outcome.RENEWED


def test_the_back_off_doubles_up_to_its_bound() -> None:
    waits = [back_off_s(failures) for failures in range(1, 9)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert back_off_s(10_000) == MAX_BACK_OFF_S
    assert [back_off_s(count, longest_s=300.0) for count in (8, 9, 10, 11)] == [128, 256, 300, 300]


@pytest.mark.parametrize("trouble", [Trouble.ANSWER_LOST, Trouble.GATEWAY_TIMEOUT])
async def test_a_lost_answer_is_not_asked_for_again_while_the_access_token_is_good(
    scene: Scene, mock_clock: trio.testing.MockClock, trouble: Trouble
) -> None:
    scene.issuer.troubles = [trouble]
    account = scene.account()
    for _ in range(3):
        result = await scene.refresh()
        assert (result.outcome, result.account) == (Outcome.POSTPONED, account)
        mock_clock.jump(MAX_BACK_OFF_S)
    assert scene.calls == 1
    assert scene.issuer.takes(account.credentials.access_token)  # no reuse, nothing revoked


async def test_a_lost_answer_is_asked_for_once_the_access_token_is_about_to_expire(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    scene.issuer.troubles = [Trouble.ANSWER_LOST]
    await scene.refresh()
    mock_clock.jump(MAX_BACK_OFF_S)
    scene.clock.now_unix_s += 3600.0 - LAST_MOMENT_S
    result = await scene.refresh()
    assert scene.calls == 2
    assert result.outcome is Outcome.NEEDS_REAUTH
    assert result.why == "answer lost, then refresh_token_reused"


async def test_a_lost_answer_is_asked_for_when_the_backend_rejects_the_access_token(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    scene.issuer.troubles = [Trouble.ANSWER_LOST]
    await scene.refresh()
    mock_clock.jump(MAX_BACK_OFF_S)
    assert (await scene.refresh(reason="unauthorized_recovery")).outcome is Outcome.NEEDS_REAUTH
    assert scene.calls == 2


async def test_a_pair_stored_by_another_process_ends_the_wait_for_a_lost_answer(
    scene: Scene,
) -> None:
    scene.issuer.troubles = [Trouble.ANSWER_LOST]
    old = scene.account()
    await scene.refresh()
    scene.sign_in()
    result = await scene.refresher.refresh(old, reason="proactive_expiry")
    assert result.outcome is Outcome.ADOPTED
    assert (await scene.refresh()).outcome is Outcome.RENEWED


async def test_a_token_whose_answer_one_process_lost_is_not_sent_by_another(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    scene.issuer.troubles = [Trouble.ANSWER_LOST]
    await scene.refresh()
    other = scene.another_process()
    result = await other.refresh(scene.account(), reason="proactive_expiry")
    assert (result.outcome, scene.calls) == (Outcome.POSTPONED, 1)
    assert scene.issuer.takes(scene.account().credentials.access_token)
    scene.clock.now_unix_s += 3600.0 - LAST_MOMENT_S
    result = await other.refresh(scene.account(), reason="proactive_expiry")
    assert result.why == "answer lost, then refresh_token_reused"
    assert mock_clock.current_time() < MAX_BACK_OFF_S


async def test_a_token_is_marked_on_disk_before_it_is_sent_and_until_the_pair_is(
    scene: Scene,
) -> None:
    old = scene.account().credentials
    scene.issuer.gate = trio.Event()
    async with trio.open_nursery() as waiters:
        waiters.start_soon(scene.refresh)
        await scene.issuer.wait_for_calls(1)
        assert scene.mark.is_of(old.refresh_token or "")
        scene.issuer.gate.set()
    assert not scene.mark.path.exists()


async def test_a_token_that_a_killed_process_had_sent_is_left_alone_until_nothing_is_left_to_lose(
    scene: Scene,
) -> None:
    scene.mark.make(scene.account().credentials.refresh_token or "")
    assert (await scene.refresh()).outcome is Outcome.POSTPONED
    assert scene.calls == 0
    # The backend rejects the access token; and the dead process's call had never arrived.
    assert (await scene.refresh(reason="unauthorized_recovery")).outcome is Outcome.RENEWED
    assert not scene.mark.path.exists()


async def test_a_mark_of_an_earlier_token_holds_nobody_up(scene: Scene) -> None:
    scene.mark.make("rt_0")
    assert (await scene.refresh()).outcome is Outcome.RENEWED


@pytest.mark.parametrize("trouble", [Trouble.UNREACHABLE, Trouble.BUSY, Trouble.ODD_CODE])
async def test_an_answer_that_leaves_the_token_unspent_leaves_no_mark(
    scene: Scene, trouble: Trouble
) -> None:
    scene.issuer.troubles = [trouble]
    assert (await scene.refresh()).outcome is Outcome.POSTPONED
    assert not scene.mark.path.exists()


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "being stopped"])
async def test_a_proxy_in_which_the_call_hangs_leaves_no_mark(
    tmp_path: Path, mock_clock: trio.testing.MockClock, stopped: bool
) -> None:
    url = "https://issuer.invalid"
    arrived = trio.Event()

    async def hang(caller: Caller) -> None:
        await caller.head()
        arrived.set()
        await caller.left()

    async with serving(hang) as proxy, trio.open_nursery() as nursery:
        named = {Origin.of(httpx.URL(url)): Proxy.named(proxy.url, source="HTTPS_PROXY")}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with DirectTransport(ssl_context=context, proxies=named) as transport:
            scene = Scene(tmp_path, nursery)
            scene.refresher = scene.another_process(transport=transport, url=url)
            results: list[RefreshResult] = []

            async def refresh() -> None:
                results.append(await scene.refresh())

            async with trio.open_nursery() as waiters:
                waiters.start_soon(refresh)
                await arrived.wait()
                assert scene.mark.is_of("rt_1")
                if stopped:
                    scene.refresher.close()
                mock_clock.jump(CLOSING_S if stopped else CONNECT_S)
    [result] = results
    assert result.outcome is Outcome.POSTPONED
    assert result.why.startswith("the sign-in service cannot be reached")
    assert stopped or "(HTTPS_PROXY)" in result.why
    assert not scene.mark.path.exists()


async def test_an_unspent_answer_does_not_undo_what_was_lost_before(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    scene.issuer.troubles = [Trouble.ANSWER_LOST, Trouble.BUSY]
    await scene.refresh()
    mock_clock.jump(MAX_BACK_OFF_S)
    await scene.refresh(reason="unauthorized_recovery")
    assert scene.calls == 2
    assert scene.mark.is_of("rt_1")


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
async def test_nothing_is_sent_when_the_disk_takes_no_mark_as_it_would_take_no_tokens(
    scene: Scene,
) -> None:
    scene.mark.path.symlink_to(scene.folder / "none" / "mark")
    result = await scene.refresh()
    assert (result.outcome, scene.calls) == (Outcome.POSTPONED, 0)
    assert "cannot be used" in result.why


class FallsOnLeaving(Turnstile):
    """A turnstile that cannot be left in order."""

    @contextlib.asynccontextmanager
    async def passing(self, account_id: str, *, folder: Path | None) -> AsyncIterator[None]:
        async with super().passing(account_id, folder=folder):
            yield
            raise OSError(5, "Input/output error")


async def test_a_pair_is_not_forgotten_whatever_goes_wrong_behind_the_call(scene: Scene) -> None:
    sound = scene.refresher.turnstile
    scene.refresher.turnstile = FallsOnLeaving(wall_clock=scene.clock, rng=Hasty())
    assert "Input/output error" in (await scene.refresh()).why
    assert scene.calls == 1
    scene.refresher.turnstile = sound
    assert (await scene.refresh()).outcome is Outcome.RENEWED
    assert scene.account().credentials.refresh_token == "rt_2"
    assert scene.calls == 1


async def test_a_pair_that_one_process_cannot_store_is_not_burnt_by_another(scene: Scene) -> None:
    full = scene.another_process(files=FullDisk(scene.store))
    await full.refresh(scene.account(), reason="proactive_expiry")
    assert (await scene.refresh()).outcome is Outcome.POSTPONED
    assert scene.calls == 1
    result = await full.refresh(scene.account(), reason="proactive_expiry")
    assert (result.outcome, scene.calls) == (Outcome.RENEWED, 1)


async def test_a_call_has_its_budget_and_counts_as_lost_when_it_runs_out(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    scene.issuer.troubles = [Trouble.HANGS]
    results: list[RefreshResult] = []

    async def refresh() -> None:
        results.append(await scene.refresh())

    async with trio.open_nursery() as waiters:
        waiters.start_soon(refresh)
        await scene.issuer.wait_for_calls(1)
        mock_clock.jump(REFRESH_BUDGET_S)
    assert [(r.outcome, r.why) for r in results] == [
        (Outcome.POSTPONED, "the sign-in service did not answer in time")
    ]
    mock_clock.jump(MAX_BACK_OFF_S)
    await scene.refresh()
    assert scene.calls == 1


async def test_a_pair_that_cannot_be_stored_is_stored_by_the_next_flight_without_a_call(
    scene: Scene,
) -> None:
    scene.refresher = scene.another_process(files=FullDisk(scene.store))
    old = scene.account()
    result = await scene.refresh()
    assert result.outcome is Outcome.POSTPONED
    assert "No space left" in result.why
    assert scene.account() == old
    assert (await scene.refresh()).outcome is Outcome.RENEWED
    assert scene.account().credentials.refresh_token == "rt_2"
    assert scene.calls == 1


@attrs.define
class SmallDisk:
    """Refuses what makes the files of a folder larger than it is."""

    folder: Path
    size_bytes: int = 1 << 30
    refused: list[str] = attrs.field(factory=list)
    _fsync: Callable[[int], None] = attrs.field(default=os.fsync, init=False)

    def used_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def fsync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        if self.used_bytes() > self.size_bytes:
            growing = max(self.folder.glob(".*.tmp"), key=lambda path: path.stat().st_size)
            self.refused.append(growing.name.split(".json.")[0])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.skipif(os.name == "nt", reason="file modes and links of Unix")
@pytest.mark.parametrize("free_bytes", [400, 1500, 12_000])
async def test_a_disk_that_could_not_take_the_new_tokens_lets_none_be_spent(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, free_bytes: int
) -> None:
    disk = SmallDisk(scene.folder)
    disk.size_bytes = disk.used_bytes() + free_bytes
    monkeypatch.setattr(os, "fsync", disk.fsync)
    result = await scene.refresh()
    assert (result.outcome, scene.calls) == (Outcome.POSTPONED, 0)
    assert "No space left" in result.why
    disk.size_bytes = 1 << 30
    assert (await scene.refresh()).outcome is Outcome.RENEWED


async def test_the_room_for_the_new_tokens_is_kept_while_the_token_is_away(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Somebody's key makes the file larger than what new tokens may grow by.
    write_account(scene.folder, "work", scene.account().credentials, notes="x" * 50_000)
    disk = SmallDisk(scene.folder)
    monkeypatch.setattr(os, "fsync", disk.fsync)
    scene.issuer.gate = trio.Event()
    results: list[RefreshResult] = []

    async def refresh() -> None:
        results.append(await scene.refresh())

    async with trio.open_nursery() as waiters:
        waiters.start_soon(refresh)
        await scene.issuer.wait_for_calls(1)
        disk.size_bytes = disk.used_bytes()  # others have taken all the rest
        scene.issuer.gate.set()
    assert [result.outcome for result in results] == [Outcome.RENEWED]
    assert disk.refused == []
    assert scene.account().credentials.refresh_token == "rt_2"


async def test_a_pair_that_could_not_be_stored_is_stored_when_the_relay_is_stopped(
    tmp_path: Path,
) -> None:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            scene = Scene(tmp_path, nursery)
            scene.refresher = scene.another_process(files=FullDisk(scene.store))
            assert (await scene.refresh()).outcome is Outcome.POSTPONED
            scene.refresher.close()
            nursery.cancel_scope.cancel()
    assert scene.account().credentials.refresh_token == "rt_2"
    assert not scene.mark.path.exists()
    assert scene.calls == 1


async def test_a_pair_of_a_flight_that_ends_while_the_relay_is_stopped_gets_a_last_attempt_too(
    tmp_path: Path,
) -> None:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            scene = Scene(tmp_path, nursery)
            scene.refresher = scene.another_process(files=FullDisk(scene.store))
            scene.issuer.gate = trio.Event()
            nursery.start_soon(scene.refresh)
            await scene.issuer.wait_for_calls(1)
            scene.refresher.close()
            nursery.cancel_scope.cancel()
            scene.issuer.gate.set()
    assert scene.account().credentials.refresh_token == "rt_2"


async def test_a_pair_that_is_lost_in_the_end_is_told_loudly_and_without_tokens(
    tmp_path: Path,
) -> None:
    with structlog.testing.capture_logs() as logs, trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            scene = Scene(tmp_path, nursery)
            scene.refresher = scene.another_process(files=FullDisk(scene.store, failures=2))
            await scene.refresh()
            scene.refresher.close()
    (told,) = (line for line in logs if line["log_level"] == "error")
    assert told["account"] == "work"
    assert "No space left" in told["reason"]
    assert "sign this account in again" in told["to_do"]
    assert "rt_" not in str(logs)
    assert scene.mark.is_of("rt_1")  # nobody sends the spent token lightly


@pytest.mark.parametrize("expires_in", [-5, 1e30])
async def test_a_life_of_nonsense_breaks_no_file(scene: Scene, expires_in: float) -> None:
    answer = {"access_token": "a", "refresh_token": "r", "expires_in": expires_in}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    result = await scene.another_process(transport=transport).refresh(
        scene.account(), reason="proactive_expiry"
    )
    assert (result.outcome, result.account) == (Outcome.RENEWED, scene.account())
    assert scene.account().credentials == Credentials(access_token="a", refresh_token="r")


async def test_a_token_that_cannot_be_one_is_not_stored_and_the_sent_one_counts_as_spent(
    scene: Scene,
) -> None:
    before = scene.account()
    answer = {"access_token": "a b", "refresh_token": "r"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    result = await scene.another_process(transport=transport).refresh(
        before, reason="proactive_expiry"
    )
    assert (result.outcome, scene.account()) == (Outcome.POSTPONED, before)
    assert scene.mark.is_of("rt_1")


async def test_a_lock_that_another_process_never_releases_postpones(
    scene: Scene, autojump_clock: trio.testing.MockClock
) -> None:
    # Whatever the threads are doing when the clock jumps: there is nothing else to happen.
    lock = scene.store.flight_lock("work")
    assert lock.try_acquire()
    assert autojump_clock.autojump_threshold == 0
    result = await scene.refresh()
    lock.release()
    assert (result.outcome, scene.calls) == (Outcome.POSTPONED, 0)
    assert "another process" in result.why


async def test_an_account_whose_file_was_removed_is_gone(scene: Scene) -> None:
    account = scene.account()
    (scene.folder / "work.json").unlink()
    result = await scene.refresher.refresh(account, reason="proactive_expiry")
    assert (result.outcome, scene.calls) == (Outcome.GONE, 0)


async def test_a_file_that_has_become_unusable_postpones_and_is_left_alone(scene: Scene) -> None:
    account = scene.account()
    path = scene.folder / "work.json"
    path.write_bytes(b"{half")
    result = await scene.refresher.refresh(account, reason="proactive_expiry")
    assert (result.outcome, scene.calls) == (Outcome.POSTPONED, 0)
    assert str(path) in result.why
    assert path.read_bytes() == b"{half"


async def test_without_a_refresh_token_there_is_nothing_to_send(scene: Scene) -> None:
    write_account(scene.folder, "work", Credentials(access_token="a"))
    assert (await scene.refresh()).outcome is Outcome.POSTPONED
    assert scene.calls == 0


async def test_an_unforeseen_error_ends_one_flight_and_its_token_counts_as_spent(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    calls: list[httpx.Request] = []

    def fail(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        raise RuntimeError("a bug")

    scene.refresher = scene.another_process(transport=httpx.MockTransport(fail))
    for _ in range(2):
        assert (await scene.refresh()).outcome is Outcome.POSTPONED
        mock_clock.jump(MAX_BACK_OFF_S)
    assert len(calls) == 1


async def test_a_flight_of_codex_clis_account_writes_into_its_file(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    clock = WallClock()
    issuer = FakeIssuer(clock)
    pair = issuer.sign_in("w")
    tokens = {"access_token": pair.access_token, "refresh_token": pair.refresh_token}
    (tmp_path / "auth.json").write_bytes(dump({"tokens": tokens}))
    legacy = LegacyStore((tmp_path,))
    refresher = Refresher(
        nursery=nursery,
        issuer=Issuer(url="http://issuer.invalid", transport=issuer),
        files={"legacy": legacy},
        wall_clock=clock,
    )
    account = legacy.read(LEGACY_ID)
    assert account is not None
    result = await refresher.refresh(account, reason="proactive_expiry")
    assert result.outcome is Outcome.RENEWED
    assert LegacyStore((tmp_path,)).read(LEGACY_ID) == result.account
    assert result.account.credentials.refresh_token == "rt_2"


@pytest.mark.parametrize(
    ("memory", "reason", "rest_of_life_s", "may"),
    [
        pytest.param(Memory("t"), "proactive_expiry", 200, True, id="first time"),
        pytest.param(
            Memory("t", not_before_at_s=11), "proactive_expiry", 0, False, id="backing off"
        ),
        pytest.param(
            Memory("t", not_before_at_s=10), "proactive_expiry", 0, True, id="back-off over"
        ),
        pytest.param(
            Memory("t", unanswered=True), "proactive_expiry", 61, False, id="lost, token good"
        ),
        pytest.param(
            Memory("t", unanswered=True), "proactive_expiry", 60, True, id="lost, last moment"
        ),
        pytest.param(
            Memory("t", unknown_refusals=99), "proactive_expiry", 61, True, id="odd codes"
        ),
        pytest.param(
            Memory("t", unanswered=True),
            "unauthorized_recovery",
            3600,
            True,
            id="lost, token rejected",
        ),
    ],
)
def test_a_token_is_sent_unless_that_could_do_harm(
    memory: Memory, reason: RefreshReason, rest_of_life_s: float, may: bool
) -> None:
    credentials = an_account(expires_at_unix_s=NOW + rest_of_life_s).credentials
    why = memory.postponement(credentials, reason=reason, now_unix_s=NOW, now_at_s=10.0)
    assert (why is None) is may


def test_memory_does_not_show_its_token() -> None:
    assert "s3cret" not in repr(Memory("s3cret"))
