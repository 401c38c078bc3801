from __future__ import annotations

import contextlib
import math
import os
import random
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import orjson
import pytest
import trio
import trio.lowlevel
import trio.testing
from structlog.testing import capture_logs

from codexrelay.accounts.files import Fingerprint
from codexrelay.accounts.legacy import LegacyStore
from codexrelay.accounts.lender import (
    LEGACY_BUFFER_S,
    PATIENCE_S,
    RESCAN_S,
    SAVE_LATER_S,
    Lease,
    Lender,
    open_lender,
)
from codexrelay.accounts.pool import Ask, By, Choice
from codexrelay.accounts.refresh import CLOSING_S, REFRESH_BUDGET_S
from codexrelay.accounts.settings import ManagedOAuthSettings
from codexrelay.accounts.sources import Sources
from codexrelay.accounts.standing import (
    FIRST_REFUSAL_S,
    MAX_REJECTED_TOKENS,
    Saving,
    Why,
    refusal_s,
)
from codexrelay.accounts.store import AccountStore
from codexrelay.accounts.waiting import LOOK_AGAIN_S, Patience
from codexrelay.errors import (
    AllLimitedError,
    AllTriedError,
    ModelNotOfferedError,
    NeedsReauthError,
    NoAccountError,
    RefreshUnavailableError,
    ThrottledError,
    TurnedAwayError,
    UnusableFilesError,
)
from codexrelay.protocol.faults import Fault, FaultKind
from codexrelay.protocol.limits import Limits
from tests.fakes.cancel_at_step import CancelAtStep
from tests.fakes.faults import a_fault
from tests.fakes.issuer import FakeIssuer, Trouble
from tests.fakes.tokens import write_account
from tests.fakes.upstream import lending
from tests.fakes.virtual_time import in_virtual_time
from tests.fakes.wall_clock import NOW_UNIX_S as NOW
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from codexrelay.accounts.account import Account

BUFFER_S = 300.0


LIMITED = a_fault(FaultKind.LIMITED, resets_at_unix_s=NOW + 900)
UNAUTHORIZED = a_fault(FaultKind.UNAUTHORIZED)
EXPIRED = a_fault(FaultKind.UNAUTHORIZED, status=401, code="token_expired")


@attrs.define(eq=False)
class Scene:
    """A folder of accounts and their issuer; lenders are opened over it."""

    folder: Path
    clock: WallClock = attrs.field(factory=WallClock)
    issuer: FakeIssuer = attrs.field(init=False)
    settings: ManagedOAuthSettings = attrs.field(factory=ManagedOAuthSettings)

    def __attrs_post_init__(self) -> None:
        self.issuer = FakeIssuer(self.clock)

    @property
    def store(self) -> AccountStore:
        return AccountStore(self.folder / "store")

    def sign_in(self, *names: str, lifetime_s: float = 3600.0) -> None:
        for name in names:
            pair = self.issuer.sign_in(f"workspace-of-{name}", lifetime_s=lifetime_s)
            write_account(self.folder / "store", name, pair)

    def sign_in_codex_cli(self, *, lifetime_s: float) -> None:
        pair = self.issuer.sign_in("workspace-of-codex-cli", lifetime_s=lifetime_s)
        tokens = {"access_token": pair.access_token, "refresh_token": pair.refresh_token}
        (self.folder / "codex").mkdir()
        (self.folder / "codex" / "auth.json").write_bytes(orjson.dumps({"tokens": tokens}))

    def stored(self, name: str) -> Account:
        account = self.store.read(name)
        assert account is not None
        return account

    def open(self) -> AbstractAsyncContextManager[Lender]:
        sources = Sources(store=self.store, legacy=LegacyStore((self.folder / "codex",)))
        return open_lender(
            sources,
            self.settings,
            issuer_url="http://issuer.invalid",
            transport=self.issuer,
            wall_clock=self.clock,
        )

    @property
    def calls(self) -> int:
        return len(self.issuer.calls)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def lend(lender: Lender, fault: Fault | None = None, **how: object) -> Account:
    """Hold a lease for an instant, report on it, and return its account."""
    async with lender.lease(Ask(**how)) as lease:  # type: ignore[arg-type] - passed on as given
        if fault is None:
            lease.accept()
        else:
            lease.report(fault)
        return lease.account


async def test_nine_turns_over_three_accounts_are_three_each(scene: Scene) -> None:
    scene.sign_in("a", "b", "c")
    async with scene.open() as lender:
        lent = [(await lend(lender)).id for _ in range(9)]
    assert Counter(lent) == {"a": 3, "b": 3, "c": 3}
    assert scene.calls == 0


async def test_a_token_that_expires_within_the_buffer_is_refreshed_before_it_is_used(
    scene: Scene,
) -> None:
    scene.sign_in("work", lifetime_s=200)
    old = scene.stored("work")
    async with scene.open() as lender:
        account = await lend(lender)
    assert scene.calls == 1
    assert account.credentials != old.credentials
    assert account.credentials == scene.stored("work").credentials


async def test_after_a_401_the_account_that_was_used_is_refreshed_once_and_used_again(
    scene: Scene,
) -> None:
    scene.sign_in("a", "b")
    async with scene.open() as lender:
        rejected = await lend(lender, UNAUTHORIZED, again="b")
        account = await lend(lender, again="b")
    assert (account.id, scene.calls) == ("b", 1)
    assert account.credentials.access_token != rejected.credentials.access_token
    assert scene.issuer.calls[0]["refresh_reason"] == "unauthorized_recovery"


async def test_two_turns_with_one_rejected_token_make_one_call(scene: Scene) -> None:
    scene.sign_in("work")
    async with scene.open() as lender:
        async with lender.lease(Ask()) as first, lender.lease(Ask()) as second:
            first.report(UNAUTHORIZED)
            second.report(UNAUTHORIZED)
        async with trio.open_nursery() as turns:
            turns.start_soon(lend, lender)
            turns.start_soon(lend, lender)
    assert scene.calls == 1


async def test_an_account_that_cannot_be_refreshed_any_more_falls_through_to_another(
    scene: Scene,
) -> None:
    scene.sign_in("a", "b")
    scene.issuer._answer(scene.stored("a").credentials.refresh_token or "")  # spent elsewhere
    async with scene.open() as lender:
        assert (await lend(lender, UNAUTHORIZED)).id == "a"
        assert (await lend(lender, again="a")).id == "b"
        assert [(await lend(lender)).id for _ in range(2)] == ["b", "b"]
    assert scene.calls == 1
    assert scene.stored("a").needs_reauth == "refresh_token_reused"


async def test_when_the_last_account_is_dead_the_error_names_it_and_why(scene: Scene) -> None:
    scene.sign_in("work", lifetime_s=-1)
    scene.issuer._answer(scene.stored("work").credentials.refresh_token or "")
    async with scene.open() as lender:
        with pytest.raises(NeedsReauthError, match=r"work.*refresh_token_reused"):
            await lend(lender)
        scene.sign_in("work")
        assert (await lend(lender)).id == "work"  # no restart, no wait


async def test_fresh_tokens_that_are_all_rejected_set_an_account_aside_in_memory_only(
    scene: Scene,
) -> None:
    scene.sign_in("work")
    async with scene.open() as lender:
        for _ in range(MAX_REJECTED_TOKENS):
            await lend(lender, EXPIRED)
        for _ in range(10):
            with pytest.raises(TurnedAwayError) as caught:
                await lend(lender)
        assert (caught.value.status, caught.value.code) == (401, "token_expired")
        assert str(caught.value) == (
            "words (account work was turned away with 401 token_expired and is tried again in 60 s)"
            "; if tokens go on being refused: `codexrelay accounts update work`"
        )
    assert scene.calls == MAX_REJECTED_TOKENS - 1
    assert scene.stored("work").needs_reauth is None
    async with scene.open() as lender:
        assert (await lend(lender)).id == "work"


async def test_an_outage_of_the_backend_costs_one_refresh_per_trial(scene: Scene) -> None:
    scene.sign_in("work", lifetime_s=1_000_000)
    scene.issuer.lifetime_s = 1_000_000
    async with scene.open() as lender:
        for _ in range(MAX_REJECTED_TOKENS):
            await lend(lender, UNAUTHORIZED)
        for times in range(1, 6):
            before, token = scene.calls, scene.stored("work").credentials
            scene.clock.now_unix_s += refusal_s(times)
            assert (await lend(lender, UNAUTHORIZED)).credentials == token
            assert (await lend(lender, UNAUTHORIZED)).credentials != token
            with pytest.raises(TurnedAwayError):
                await lend(lender)
            assert scene.calls == before + 1
        scene.clock.now_unix_s += refusal_s(6)
        await lend(lender)
        assert (await lend(lender)).id == "work"
    assert scene.stored("work").needs_reauth is None


async def test_who_is_set_aside_is_logged_once(scene: Scene) -> None:
    scene.sign_in("work")
    with capture_logs() as logged:
        async with scene.open() as lender:
            for _ in range(MAX_REJECTED_TOKENS):
                await lend(lender, EXPIRED)
            with pytest.raises(TurnedAwayError):
                await lend(lender)
    (line,) = [line for line in logged if line["event"] == "account set aside"]
    assert line["log_level"] == "warning"
    assert line["account"] == "work"
    assert (line["status"], line["code"]) == (401, "token_expired")
    assert line["tried_again_in_s"] == FIRST_REFUSAL_S


async def test_with_every_account_limited_no_call_is_made_and_the_first_recovery_is_told(
    scene: Scene,
) -> None:
    scene.sign_in("a", "b", lifetime_s=1_000_000)
    async with scene.open() as lender:
        await lend(lender, a_fault(FaultKind.LIMITED, resets_at_unix_s=NOW + 500), again="a")
        await lend(lender, LIMITED, again="b")
        with pytest.raises(AllLimitedError) as caught:
            await lend(lender)
        assert [(w.account_id, w.until_unix_s) for w in caught.value.waiting] == [
            ("a", NOW + 500),
            ("b", NOW + 900),
        ]
        assert caught.value.resets_in_s == 500
        assert caught.value.first.plan_type == "plus"
        scene.clock.now_unix_s += 500
        assert (await lend(lender)).id == "a"
    assert scene.calls == 0


async def test_a_cool_down_outlives_the_process(scene: Scene) -> None:
    scene.sign_in("work")
    async with scene.open() as lender:
        await lend(lender, LIMITED)
    async with scene.open() as lender:
        with pytest.raises(AllLimitedError):
            await lend(lender)
    assert scene.stored("work").rate_limited_until_unix_s == NOW + 900


async def test_a_cool_down_is_stored_while_the_lender_is_open(scene: Scene) -> None:
    scene.sign_in("work")
    async with scene.open() as lender:
        await lend(lender, LIMITED)
        with trio.fail_after(30):
            while scene.stored("work").rate_limited_until_unix_s is None:  # noqa: ASYNC110 - a file
                await trio.sleep(0.001)


async def test_a_cool_down_that_another_program_clears_is_over_without_restart(
    scene: Scene,
) -> None:
    scene.sign_in("work")
    async with scene.open() as lender:
        await lend(lender, LIMITED)
        await lender.save()
        await lender.rescan()
        scene.store.clear_limit("work", now_unix_s=NOW)
        assert (await lend(lender)).id == "work"


async def test_starting_without_accounts_is_no_error_and_the_first_one_is_used_at_once(
    scene: Scene,
) -> None:
    async with scene.open() as lender:
        assert lender.accounts() == ()
        with pytest.raises(NoAccountError) as caught:
            await lend(lender)
        assert str(scene.folder / "store") in str(caught.value)
        assert str(scene.folder / "codex") in str(caught.value)
        scene.sign_in("work")
        assert (await lend(lender)).id == "work"


async def test_changed_files_are_noticed_within_a_second(scene: Scene) -> None:
    scene.sign_in("a")
    async with scene.open() as lender:
        await lend(lender)
        scene.sign_in("b")
        (scene.folder / "store" / "a.json").unlink()
        assert (await lend(lender)).id == "a"  # within the second
        scene.clock.now_unix_s += RESCAN_S
        assert (await lend(lender)).id == "b"
        scene.clock.now_unix_s -= 3600  # the clock of the machine was put back
        scene.sign_in("c")
        assert (await lend(lender)).id == "c"


async def test_problems_of_files_are_told_and_gone_when_repaired(scene: Scene) -> None:
    scene.sign_in("work")
    path = scene.folder / "store" / "broken.json"
    path.write_bytes(b"{}")
    async with scene.open() as lender:
        assert [problem.where for problem in lender.problems()] == [f"{path}: access_token"]
        assert [account.id for account in lender.accounts()] == ["work"]
        path.unlink()
        await lender.rescan()
        assert lender.problems() == ()


async def test_a_broken_file_is_not_called_absent(scene: Scene) -> None:
    path = scene.folder / "store" / "work.json"
    scene.sign_in("work")
    async with scene.open() as lender:
        path.write_bytes(b'{"access_token": 7, "refresh_token": "s3cret"}')
        scene.clock.now_unix_s += RESCAN_S
        with pytest.raises(UnusableFilesError) as caught:
            await lend(lender)
        assert f"{path}: access_token: a string is needed" in str(caught.value)
        assert "s3cret" not in str(caught.value)
        assert str(lender.nothing_to_lend()) == str(caught.value)
        scene.sign_in("work")
        assert (await lend(lender)).id == "work"


async def test_each_problem_of_the_files_is_logged_when_it_comes_and_when_it_goes(
    scene: Scene,
) -> None:
    scene.sign_in("work", "home")
    broken = [scene.folder / "store" / f"{name}.json" for name in ("old", "work")]
    broken[0].write_bytes(b"{}")
    with capture_logs() as logged:
        async with scene.open() as lender:
            assert logged == []  # told at the start by others
            broken[1].write_bytes(b"{}")
            for _ in range(3):
                await lender.rescan()
                scene.sign_in("home")
            scene.sign_in("work")
            await lender.rescan()
            broken[0].unlink()
            await lender.rescan()
    assert [(line["log_level"], line["problem"].split(": ")[0]) for line in logged] == [
        ("warning", str(broken[1])),
        ("info", str(broken[1])),
        ("info", str(broken[0])),
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes among files are Unix's")
async def test_a_pipe_among_the_files_is_a_problem_and_holds_up_nobody(scene: Scene) -> None:
    scene.sign_in("work")
    os.mkfifo(scene.folder / "store" / "pipe.json")
    with trio.fail_after(30):
        async with scene.open() as lender:
            assert (await lend(lender)).id == "work"
            (problem,) = lender.problems()
    assert "pipe.json" in problem.where


@pytest.mark.parametrize("trouble", [Trouble.UNREACHABLE, Trouble.BUSY, Trouble.ANSWER_LOST])
async def test_a_good_token_is_used_when_it_cannot_be_refreshed_early(
    scene: Scene, trouble: Trouble
) -> None:
    scene.sign_in("work", lifetime_s=200)
    scene.issuer.troubles = [trouble]
    async with scene.open() as lender:
        tokens = {(await lend(lender)).credentials for _ in range(3)}
    assert tokens == {scene.stored("work").credentials}


@pytest.mark.parametrize("fault", [UNAUTHORIZED, None], ids=["rejected", "expired"])
async def test_a_useless_token_is_never_used(scene: Scene, fault: Fault | None) -> None:
    scene.sign_in("a", "b", lifetime_s=600)
    async with scene.open() as lender:
        await lend(lender, fault, again="a")
        if fault is None:
            scene.clock.now_unix_s += 600
            scene.sign_in("b", lifetime_s=600)
        scene.issuer.troubles = [Trouble.UNREACHABLE] * 2
        assert (await lend(lender, again="a")).id == "b"


async def test_when_the_issuer_is_away_and_no_token_is_good_the_error_says_so(
    scene: Scene,
) -> None:
    scene.sign_in("work", lifetime_s=-1)
    scene.issuer.troubles = [Trouble.UNREACHABLE]
    async with scene.open() as lender:
        with pytest.raises(RefreshUnavailableError, match=r"work cannot be refreshed.*reached"):
            await lend(lender)


async def test_a_turn_does_not_sit_out_a_slow_issuer_while_its_token_is_good(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    scene.sign_in("work", lifetime_s=200)
    scene.issuer.gate = trio.Event()
    lent: list[Account] = []
    async with scene.open() as lender:

        async def turn() -> None:
            lent.append(await lend(lender))

        async with trio.open_nursery() as turns:
            turns.start_soon(turn)
            await scene.issuer.wait_for_calls(1)
            mock_clock.jump(PATIENCE_S)
        assert scene.issuer.waiting == 1  # the flight goes on
        scene.issuer.gate.set()
        await turn()
    assert [account.credentials.refresh_token for account in lent] == ["rt_1", "rt_2"]
    assert scene.calls == 1


async def test_a_preferred_account_is_lent_while_it_is_usable(scene: Scene) -> None:
    scene.sign_in("a", "b", "c")
    async with scene.open() as lender:
        assert [(await lend(lender, again="c")).id for _ in range(3)] == ["c", "c", "c"]
        await lend(lender, LIMITED, again="c")
        assert (await lend(lender, again="c")).id == "a"


async def test_accounts_the_turn_has_tried_are_not_lent_again(scene: Scene) -> None:
    scene.sign_in("a", "b")
    async with scene.open() as lender:
        assert (await lend(lender, rejected=frozenset({"a"}))).id == "b"
        with pytest.raises(AllTriedError, match=r"account a was tried; account b was tried"):
            await lend(lender, rejected=frozenset({"a", "b"}))


@pytest.mark.parametrize(("rest_of_life_s", "calls"), [(LEGACY_BUFFER_S + 1, 0), (1, 1)])
async def test_codex_clis_token_is_left_to_codex_cli_until_it_is_about_to_expire(
    scene: Scene, rest_of_life_s: float, calls: int
) -> None:
    scene.sign_in_codex_cli(lifetime_s=rest_of_life_s)
    async with scene.open() as lender:
        assert (await lend(lender)).id == "codex-cli"
    assert scene.calls == calls


async def test_managed_accounts_take_over_from_codex_clis_without_restart(scene: Scene) -> None:
    scene.sign_in_codex_cli(lifetime_s=3600)
    async with scene.open() as lender:
        assert (await lend(lender)).id == "codex-cli"
        scene.sign_in("work")
        scene.clock.now_unix_s += RESCAN_S
        assert (await lend(lender)).id == "work"


async def test_every_lease_pairs_a_bearer_with_its_own_workspace(scene: Scene) -> None:
    names = ("a", "b", "c", "d")
    scene.sign_in(*names, lifetime_s=BUFFER_S + 1)
    rng = random.Random(7)
    owner: dict[str, str] = {}

    async def turn(lender: Lender) -> None:
        async with lender.lease(Ask()) as lease:
            tokens, workspace_id = lease.account.credentials, lease.account.workspace_id
            assert workspace_id == f"workspace-of-{lease.account.id}"
            assert owner.setdefault(tokens.access_token, workspace_id) == workspace_id
            assert scene.issuer.takes(tokens.access_token)
            await trio.lowlevel.checkpoint()
            scene.clock.now_unix_s += 1
            resets_at = scene.clock() + 20
            lease.accept()  # or tokens that are rejected in a row would end the account
            limited = a_fault(FaultKind.LIMITED, resets_at_unix_s=resets_at)
            if (fault := rng.choice([None, UNAUTHORIZED, limited])) is not None:
                lease.report(fault)

    async def some_turns(lender: Lender) -> None:
        for _ in range(4):
            with contextlib.suppress(AllLimitedError):
                await turn(lender)
            scene.clock.now_unix_s += 1

    async with scene.open() as lender:
        async with trio.open_nursery() as turns:
            for _ in range(50):
                turns.start_soon(some_turns, lender)
        assert lender.leased == 0
    assert scene.calls > 4
    assert all(scene.stored(name).needs_reauth is None for name in names)


async def test_a_turn_cancelled_at_any_step_leaves_the_books_right(tmp_path: Path) -> None:
    for at in range(1, 1000):
        scene = Scene(tmp_path / str(at))
        scene.sign_in("work", lifetime_s=200)
        async with scene.open() as lender:
            with trio.CancelScope() as scope:
                canceller = CancelAtStep(scope, at)
                trio.lowlevel.add_instrument(canceller)
                try:
                    async with lender.lease(Ask()) as lease:
                        assert lender.leased == 1
                        lease.report(LIMITED)
                        await trio.lowlevel.checkpoint()
                finally:
                    trio.lowlevel.remove_instrument(canceller)
            assert lender.leased == 0
            scene.clock.now_unix_s += 1000
            account = await lend(lender)
            assert scene.issuer.takes(account.credentials.access_token)
            assert scene.issuer._families[account.credentials.refresh_token or ""].current == (
                account.credentials.refresh_token
            )
            assert account.credentials == scene.stored("work").credentials
        if not scope.cancelled_caught:
            break
    else:
        pytest.fail("the turn never finished")
    assert at > 3


@attrs.frozen
class WatchedStore(AccountStore):
    """Notes each look at its files."""

    looks: list[Fingerprint] = attrs.field(factory=list)

    def fingerprint(self) -> Fingerprint:
        self.looks.append(super().fingerprint())
        return self.looks[-1]


async def test_a_crowd_without_an_account_shares_the_looks_at_the_files(scene: Scene) -> None:
    store = WatchedStore(scene.folder / "store")
    async with scene.open() as lender:
        lender.sources = attrs.evolve(lender.sources, store=store)

        async def turn() -> None:
            with pytest.raises(NoAccountError):
                await lend(lender)

        async with trio.open_nursery() as turns:
            for _ in range(50):
                turns.start_soon(turn)
    assert 1 <= len(store.looks) <= 2  # the one under way, and the one after it


async def test_a_look_at_the_files_that_is_cancelled_before_it_happens_does_not_count(
    scene: Scene,
) -> None:
    async with scene.open() as lender:
        for at in range(1, 100):
            scene.clock.now_unix_s += 2 * RESCAN_S
            scene.sign_in(f"account-{at}")
            with trio.CancelScope() as scope:
                canceller = CancelAtStep(scope, at)
                trio.lowlevel.add_instrument(canceller)
                try:
                    await lend(lender)
                finally:
                    trio.lowlevel.remove_instrument(canceller)
            await lend(lender)
            assert len(lender.accounts()) == at
            if at > 1 and not scope.cancelled_caught:
                break
        else:
            pytest.fail("the turn never finished")
    assert at >= 2


async def test_whoever_asks_while_files_are_read_is_told_what_came_too_late_for_that(
    scene: Scene,
) -> None:
    async with scene.open() as lender, trio.open_nursery() as nursery:
        for number in range(1, 20):
            nursery.start_soon(lender.rescan)
            for _ in range(number % 4):  # the other one is somewhere on its way
                await trio.lowlevel.checkpoint()
            scene.sign_in(f"account-{number}")
            await lender.rescan()
            assert len(lender.accounts()) == number


async def test_a_call_that_hangs_holds_up_the_end_for_a_few_seconds_only(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    scene.sign_in("work", lifetime_s=-1)
    scene.issuer.troubles = [Trouble.HANGS]
    async with trio.open_nursery() as process:

        @process.start_soon
        async def _() -> None:
            async with scene.open() as lender:
                await lend(lender)

        await scene.issuer.wait_for_calls(1)
        process.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(CLOSING_S)
    assert trio.current_time() < REFRESH_BUDGET_S


async def test_a_closed_lender_leaves_no_task_and_has_stored_the_pair_of_its_last_call(
    scene: Scene,
) -> None:
    scene.sign_in("work", lifetime_s=-1)
    scene.issuer.gate = trio.Event()
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with trio.open_nursery() as process:

        @process.start_soon
        async def _() -> None:
            async with scene.open() as lender:
                await lend(lender)

        await scene.issuer.wait_for_calls(1)
        process.cancel_scope.cancel()
        scene.issuer.gate.set()
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    assert scene.stored("work").credentials.refresh_token == "rt_2"


async def test_a_lease_shows_no_token(scene: Scene) -> None:
    scene.sign_in("work")
    async with scene.open() as lender, lender.lease(Ask()) as lease:
        assert isinstance(lease, Lease)
        assert lease.account.credentials.access_token not in repr(lease)
        assert (lease.account.credentials.refresh_token or "") not in repr(lease)


# Waiting in line.


def capped(scene: Scene, cap: int = 1) -> None:
    scene.settings = ManagedOAuthSettings(max_concurrent_turns=cap)


def is_idle(lender: Lender) -> bool:
    """Tell whether nothing of any turn is left."""
    places = [standing.places for standing in lender.pool._standings.values()]
    return (sum(places), len(lender.queue), lender.leased) == (0, 0, 0)


async def in_line(lender: Lender, count: int) -> None:
    """Return once so many turns wait, and sleep until something changes."""
    waiters = lender.queue._waiters
    with trio.fail_after(30):
        while sum(bool(w.woken.statistics().tasks_waiting) for w in waiters) < count:
            await trio.lowlevel.checkpoint()


async def test_turns_that_wait_are_served_in_the_order_in_which_they_came(scene: Scene) -> None:
    scene.sign_in("work")
    capped(scene)
    came: list[int] = []
    served: list[int] = []

    async def turn(lender: Lender, number: int) -> None:
        came.append(number)
        async with lender.lease(Ask()) as lease:
            served.append(number)
            assert lender.pool.leases_of(lease.account) == 1
            for _ in range(number % 3):
                await trio.lowlevel.checkpoint()
            lease.accept()

    async with scene.open() as lender:
        with trio.fail_after(30):
            async with trio.open_nursery() as turns, lender.lease(Ask()):
                for number in range(20):
                    turns.start_soon(turn, lender, number)
                    await in_line(lender, number + 1)
        assert served == came
        assert is_idle(lender)


async def test_a_turn_that_comes_later_does_not_overtake_one_whose_pause_is_just_over(
    scene: Scene,
) -> None:
    scene.sign_in("work")
    capped(scene)
    served: list[str] = []

    async def turn(lender: Lender, name: str) -> None:
        async with lender.lease(Ask(), Patience(pause_s=30)) as lease:
            served.append(name)
            lease.accept()

    async with scene.open() as lender:
        await lend(lender, a_fault(FaultKind.THROTTLED, retry_after_s=20))
        with trio.fail_after(60):
            async with trio.open_nursery() as turns:
                turns.start_soon(turn, lender, "first")
                await in_line(lender, 1)
                scene.clock.now_unix_s += 20  # nobody has told the one that waits
                await turn(lender, "second")
    assert served == ["first", "second"]


@pytest.mark.parametrize("others", [False, True], ids=["the only account", "another one is busy"])
async def test_when_the_turn_that_is_waited_for_meets_a_limit_the_error_comes_at_once(
    scene: Scene, others: bool
) -> None:
    scene.sign_in("a", "b") if others else scene.sign_in("a")
    capped(scene)
    ask = Ask(rejected=frozenset("b"))
    caught: list[AllLimitedError] = []

    async def turn(lender: Lender) -> None:
        try:
            async with lender.lease(ask):
                pytest.fail("there is no account for it")
        except AllLimitedError as error:
            caught.append(error)

    async with scene.open() as lender, contextlib.AsyncExitStack() as held:
        async with trio.open_nursery() as turns:
            first = await held.enter_async_context(lender.lease(Ask(again="a")))
            if others:
                await held.enter_async_context(lender.lease(Ask(again="b")))
            for _ in range(5):
                turns.start_soon(turn, lender)
            await in_line(lender, 5)
            with trio.fail_after(3):  # less than it takes to look by oneself
                first.report(LIMITED)
                while len(caught) < 5:
                    await trio.lowlevel.checkpoint()
        assert {error.first.until_unix_s for error in caught} == {NOW + 900}


async def test_when_the_account_that_is_waited_for_must_sign_in_again_the_error_comes_at_once(
    scene: Scene,
) -> None:
    scene.sign_in("a", "b", "c")
    capped(scene)
    scene.issuer._answer(scene.stored("a").credentials.refresh_token or "")  # spent elsewhere
    ask, caught = Ask(rejected=frozenset("bc")), list[AllTriedError]()

    async def turn(lender: Lender) -> None:
        try:
            async with lender.lease(ask):
                pytest.fail("there is no account for it")
        except AllTriedError as error:
            caught.append(error)

    async with scene.open() as lender, contextlib.AsyncExitStack() as held:
        await lend(lender, UNAUTHORIZED, again="a")
        await held.enter_async_context(lender.lease(Ask(again="b")))
        scene.issuer.gate = trio.Event()
        async with trio.open_nursery() as turns:
            turns.start_soon(partial(lend, lender, again="a"))  # c takes it in the end
            await scene.issuer.wait_for_calls(1)  # it refreshes a
            turns.start_soon(turn, lender)
            await in_line(lender, 1)
            scene.issuer.gate.set()
            with trio.fail_after(3):  # less than it takes to look by oneself
                while len(caught) < 1:
                    await trio.lowlevel.checkpoint()
    assert all("account a must sign in again" in str(error) for error in caught)


async def test_an_account_the_turn_has_tried_is_not_lent_for_one_that_cannot_be_refreshed(
    scene: Scene,
) -> None:
    scene.sign_in("a", "b")
    async with scene.open() as lender:
        await lend(lender, UNAUTHORIZED, again="a")
        scene.issuer.troubles = [Trouble.UNREACHABLE] * 3
        with pytest.raises(RefreshUnavailableError, match=r"account a cannot.*account b was tried"):
            await lend(lender, rejected=frozenset("b"))


async def test_a_turn_that_waits_is_given_an_account_whose_file_appears(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    scene.sign_in("a")
    capped(scene)
    lent: list[Account] = []
    async with scene.open() as lender, lender.lease(Ask()), trio.open_nursery() as turns:

        @turns.start_soon
        async def _() -> None:
            lent.append(await lend(lender))

        await in_line(lender, 1)
        scene.sign_in("b")
        mock_clock.jump(LOOK_AGAIN_S)
    assert [account.id for account in lent] == ["b"]


async def test_a_fresher_word_of_the_quota_serves_who_waits_for_it(scene: Scene) -> None:
    scene.sign_in("work")
    patience = Patience(limit_s=1000)
    async with scene.open() as lender, lender.lease(Ask()) as old:
        await lend(lender, LIMITED)
        async with trio.open_nursery() as turns:

            @turns.start_soon
            async def _() -> None:
                async with lender.lease(Ask(), patience) as lease:
                    assert lease.account.id == "work"

            await in_line(lender, 1)
            with trio.fail_after(3):
                old.observe(Limits(observed_unix_s=NOW + 1, reached=False))
                while len(lender.queue):
                    await trio.lowlevel.checkpoint()


async def test_a_turn_is_told_once_that_it_waits_though_what_it_got_was_no_good(
    scene: Scene,
) -> None:
    scene.sign_in("a", "b")
    capped(scene)
    told: list[Choice] = []
    async with scene.open() as lender, contextlib.AsyncExitStack() as held:
        await held.enter_async_context(lender.lease(Ask(again="b")))
        first = contextlib.AsyncExitStack()
        lease = await first.enter_async_context(lender.lease(Ask(again="a")))
        scene.issuer.troubles = [Trouble.UNREACHABLE] * 5
        async with trio.open_nursery() as turns:

            @turns.start_soon
            async def _() -> None:
                async with lender.lease(Ask(), Patience(told=told.append)) as late:
                    assert late.account.id == "b"

            await in_line(lender, 1)
            lease.report(UNAUTHORIZED)  # so that a has to be refreshed first
            await first.aclose()
            with trio.fail_after(30):
                while not scene.issuer.troubles or not len(lender.queue):
                    await trio.lowlevel.checkpoint()
            await trio.testing.wait_all_tasks_blocked(0.01)
            await held.aclose()
    assert len(told) == 1


async def test_a_turn_cancelled_at_any_step_of_its_wait_leaves_no_place_taken(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path)
    scene.sign_in("work")
    capped(scene)
    async with scene.open() as lender:
        for at in range(1, 300):
            with trio.CancelScope() as scope, trio.fail_after(30):
                async with trio.open_nursery() as turns:
                    busy = contextlib.AsyncExitStack()
                    await busy.enter_async_context(lender.lease(Ask()))

                    @turns.start_soon
                    async def _(busy: contextlib.AsyncExitStack = busy) -> None:
                        with trio.CancelScope(shield=True):
                            await trio.testing.wait_all_tasks_blocked(0.002)
                            await busy.aclose()

                    canceller = CancelAtStep(scope, at)
                    trio.lowlevel.add_instrument(canceller)
                    try:
                        await lend(lender)
                    finally:
                        trio.lowlevel.remove_instrument(canceller)
            assert is_idle(lender)
            assert (await lend(lender)).id == "work"
            if not scope.cancelled_caught:
                break
        else:
            pytest.fail("the turn never finished")
    assert at > 2


@pytest.mark.parametrize("cap", [None, 1, 2])
@in_virtual_time
async def test_two_hundred_turns_that_fail_and_leave_at_random_leave_no_place_taken(
    cap: int | None,
) -> None:
    lender = lending("a", "b", "c", strategy="session-affinity", max_concurrent_turns=cap)
    rng = random.Random(11)
    ends: Counter[str] = Counter()

    async def turn(number: int) -> None:
        ask = Ask(session=f"s{number % 7}", aside=number % 20 == 0)
        patience = Patience(pause_s=rng.choice((0, 10)), limit_s=rng.choice((0, 100)))
        with trio.move_on_after(rng.choice((math.inf, rng.uniform(0, 20)))):
            try:
                async with lender.lease(ask, patience) as lease:
                    await trio.sleep(rng.uniform(0, 5))
                    resets_at = lender.wall_clock() + 8
                    fault = rng.choice(
                        (
                            None,
                            None,
                            a_fault(FaultKind.LIMITED, resets_at_unix_s=resets_at),
                            a_fault(FaultKind.THROTTLED, retry_after_s=3),
                            a_fault(FaultKind.OVERLOADED),
                        )
                    )
                    if fault is None:
                        lease.accept()
                    else:
                        lease.report(fault)
                    await trio.sleep(rng.uniform(0, 5))
                    ends["served"] += 1
            except (AllLimitedError, ThrottledError):
                ends["refused"] += 1
            return
        ends["left"] += 1

    with trio.fail_after(10_000):
        async with trio.open_nursery() as turns:
            for number in range(200):
                turns.start_soon(turn, number)
                await trio.sleep(rng.uniform(0, 1))
    assert is_idle(lender)
    assert ends.total() == 200
    assert min(ends["served"], ends["left"], ends["refused"]) > 5


# What a lease tells, and what is learnt by it.


async def test_a_lease_says_who_decided_and_who_was_passed_over(scene: Scene) -> None:
    scene.sign_in("a", "b", lifetime_s=1_000_000)
    scene.settings = ManagedOAuthSettings(selection_strategy="session-affinity")
    async with scene.open() as lender:
        ask = Ask(session="s")
        assert (await lend(lender, session="s")).id == "a"
        await lend(lender, LIMITED, again="a")
        async with lender.lease(ask) as lease:
            assert (lease.account.id, lease.by, lease.bound) == ("b", By.STRATEGY, "a")
            assert [(p.account.id, p.why) for p in lease.passed_over] == [("a", Why.COOLING)]
            assert (lease.refreshed, lease.waited_s, lease.leased_at_unix_s) == (False, 0, NOW)
        assert lender.bound("s") == "a"
        scene.clock.now_unix_s += 900
        async with lender.lease(attrs.evolve(ask, opens=True)) as lease:
            assert (lease.account.id, lease.by) == ("a", By.BINDING)


async def test_a_session_returns_to_its_account_after_a_restart(scene: Scene) -> None:
    scene.sign_in("a", "b", lifetime_s=1_000_000)
    scene.settings = ManagedOAuthSettings(selection_strategy="session-affinity")
    async with scene.open() as lender:
        lender.restore("s", "b")
        assert lender.bound("s") == "b"
        async with lender.lease(Ask(session="s", opens=True)) as lease:
            assert (lease.account.id, lease.by) == ("b", By.BINDING)


async def test_a_refusal_for_a_model_counts_for_the_model_that_was_asked_for(
    scene: Scene,
) -> None:
    scene.sign_in("work")
    async with scene.open() as lender:
        await lend(lender, a_fault(FaultKind.UNSUPPORTED), model="pro-only")
        with pytest.raises(ModelNotOfferedError, match="'pro-only'"):
            await lend(lender, model="pro-only")
        assert (await lend(lender, model="another")).id == "work"


async def test_a_question_of_the_relays_own_is_answered_beside_the_cap_and_lifts_no_limit(
    scene: Scene,
) -> None:
    scene.sign_in("work", lifetime_s=1_000_000)
    scene.settings = ManagedOAuthSettings(
        max_concurrent_turns=1, rate_limit_local_cooldown_cap_seconds=60
    )
    async with scene.open() as lender:
        async with lender.lease(Ask()) as lease:
            await lend(lender, aside=True)
            lease.report(LIMITED)
        scene.clock.now_unix_s += 60
        await lend(lender, aside=True)
        async with lender.lease(Ask()):  # the probe
            with pytest.raises(AllLimitedError):
                await lend(lender)
        assert is_idle(lender)


@pytest.mark.parametrize(
    "kind", [FaultKind.UNAUTHORIZED, FaultKind.LIMITED, FaultKind.THROTTLED, FaultKind.UNUSABLE]
)
async def test_what_a_question_of_the_relays_own_meets_is_not_held_against_the_account(
    scene: Scene, kind: FaultKind
) -> None:
    scene.sign_in("work")
    async with scene.open() as lender:
        before = lender.accounts()
        await lend(
            lender, a_fault(kind, headers={"x-codex-primary-used-percent": "100"}), aside=True
        )
        assert lender.accounts() == before
        assert lender.pool.saving is Saving.NO
        assert (await lend(lender)).id == "work"
    assert scene.calls == 0


async def test_a_question_goes_to_an_account_with_a_good_token_if_there_is_one(
    scene: Scene,
) -> None:
    scene.sign_in("a", lifetime_s=-1)
    scene.sign_in("b", lifetime_s=200)
    async with scene.open() as lender:
        assert (await lend(lender, aside=True)).id == "b"
        assert scene.calls == 0, "a token that soon runs out is good enough"
        assert (await lend(lender, aside=True, rejected=frozenset("b"))).id == "a"
        assert scene.calls == 1, "one that has run out is renewed"
        assert (await lend(lender, aside=True, avoid=("a",))).id == "b"
        assert (await lend(lender, aside=True, avoid=("a", "b"))).id == "a"


async def test_a_question_does_not_renew_what_a_turn_was_refused_with_unless_the_owner_asks(
    scene: Scene,
) -> None:
    scene.sign_in("work")
    async with scene.open() as lender:
        await lend(lender, UNAUTHORIZED)
        with pytest.raises(RefreshUnavailableError, match="the next turn renews it"):
            await lend(lender, aside=True)
        assert scene.calls == 0
        await lend(lender, aside=True, insists=True)
        assert scene.calls == 1


async def test_a_question_never_renews_the_token_of_codex_cli(scene: Scene) -> None:
    scene.sign_in_codex_cli(lifetime_s=-1)
    async with scene.open() as lender:
        for insists in (False, True):
            with pytest.raises(RefreshUnavailableError, match="Codex CLI"):
                await lend(lender, aside=True, insists=insists)
    assert scene.calls == 0


async def test_a_turn_that_was_leased_before_the_limit_does_not_lift_it(scene: Scene) -> None:
    scene.sign_in("work")
    async with scene.open() as lender:
        async with lender.lease(Ask()) as old:
            await lend(lender, LIMITED)
            old.accept()
        with pytest.raises(AllLimitedError):
            await lend(lender)


async def test_a_lift_is_stored_for_other_processes(scene: Scene) -> None:
    scene.sign_in("work", lifetime_s=1_000_000)
    async with scene.open() as lender:
        await lend(lender, LIMITED)
        await lender.save()
        assert scene.stored("work").rate_limited_until_unix_s == NOW + 900
        scene.clock.now_unix_s += 900
        await lend(lender)
        await lender.save()
        assert scene.stored("work").rate_limited_until_unix_s is None


async def test_attention_is_stored_and_gone_once_the_owner_has_signed_in_again(
    scene: Scene,
) -> None:
    scene.sign_in("work", lifetime_s=1_000_000)
    no_codex = a_fault(FaultKind.UNUSABLE, status=403, code="deactivated_workspace")
    async with scene.open() as lender:
        await lend(lender, no_codex)
        await lender.save()
        told = scene.stored("work").attention
        assert told is not None
        assert told.code == "deactivated_workspace"
        await lender.rescan()
        with pytest.raises(TurnedAwayError):
            await lend(lender)
        account = scene.stored("work")
        scene.store.sign_in(
            "work",
            account.credentials,
            workspace_id=account.workspace_id,
            email=None,
            scope=None,
            now_unix_s=NOW,
        )
        assert (await lend(lender)).id == "work"
        assert scene.stored("work").attention is None


async def test_the_latest_use_is_stored_within_a_minute_and_a_limit_at_once(
    scene: Scene, mock_clock: trio.testing.MockClock
) -> None:
    scene.sign_in("work")

    async def until(is_stored: Callable[[Account], bool]) -> None:
        with trio.CancelScope() as scope:
            scope.deadline = math.inf
            for _ in range(10_000):
                await trio.testing.wait_all_tasks_blocked()
                if is_stored(scene.stored("work")):
                    return
        pytest.fail("it was not stored")

    async with scene.open() as lender:
        await lend(lender)
        await trio.testing.wait_all_tasks_blocked(0.02)
        mock_clock.jump(SAVE_LATER_S - 1)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert scene.stored("work").last_used_unix_s is None
        mock_clock.jump(1)
        await until(lambda account: account.last_used_unix_s == NOW)
        await lend(lender)  # learnt, and soon to be saved by somebody else
        await trio.testing.wait_all_tasks_blocked(0.02)
        await lender.save()
        await lend(lender, LIMITED)
        await until(lambda account: account.rate_limited_until_unix_s == NOW + 900)
