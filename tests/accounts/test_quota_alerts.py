"""When the owner is told that a quota runs low."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from codexrelay.accounts.quota_alerts import QuotaAlerts
from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.protocol.limits import Limits, Window
from harness.simulator import Simulator
from tests.fakes import responses_events as events
from tests.fakes.relay import ask, relaying, with_accounts
from tests.fakes.scripted_server import Caller, serving
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from pathlib import Path

NOW: Final = 1_790_000_000.0
RESET: Final = NOW + 5 * 3600
THRESHOLDS: Final = (25.0, 10.0)


@attrs.frozen
class Seen:
    """One observation of the 5 h window: used per cent, seconds after the first, its reset."""

    used: float
    at_s: float = 0.0
    resets_at: float | None = RESET


def told(*seen: Seen, thresholds: tuple[float, ...] = THRESHOLDS) -> list[float | None]:
    """Return the threshold that each observation led to."""
    alerts = QuotaAlerts()
    found: list[float | None] = []
    for one in seen:
        window = Window(used_percent=one.used, length_s=18_000.0, resets_at_unix_s=one.resets_at)
        limits = Limits(observed_unix_s=NOW + one.at_s, primary=window)
        new = alerts.observe("work", limits, thresholds=thresholds)
        assert len(new) <= 1
        found.append(new[0].threshold_percent if new else None)
    return found


CONVERSATIONS: Final[dict[str, list[tuple[Seen, float | None]]]] = {
    "plenty": [(Seen(10), None), (Seen(50), None)],
    "exactly at a threshold is not below it": [(Seen(75), None), (Seen(75.01), 25.0)],
    "each threshold once": [
        (Seen(76), 25.0),
        (Seen(80), None),
        (Seen(91), 10.0),
        (Seen(99), None),
    ],
    "only the tightest of two": [(Seen(50), None), (Seen(95), 10.0), (Seen(96), None)],
    "low from the start": [(Seen(95), 10.0), (Seen(95), None)],
    "more than used up": [(Seen(130), 10.0)],
    "not again because it wavers": [(Seen(76), 25.0), (Seen(75), None), (Seen(76), None)],
    "not again because it wavers and wavers": [
        (Seen(76), 25.0),
        (Seen(71), None),
        (Seen(76), None),
        (Seen(73), None),
        (Seen(76), None),
    ],
    "again after it has clearly recovered": [(Seen(76), 25.0), (Seen(70), None), (Seen(76), 25.0)],
    "again after a part has recovered": [(Seen(95), 10.0), (Seen(85), None), (Seen(95), 10.0)],
    "a tighter one is told while a wider one wavers": [
        (Seen(76), 25.0),
        (Seen(74), None),
        (Seen(95), 10.0),
    ],
    "the wider one stays latched": [(Seen(95), 10.0), (Seen(85), None), (Seen(80), None)],
    "again in a new window": [
        (Seen(95), 10.0),
        (Seen(92, 18_000, RESET + 18_000), 10.0),
        (Seen(93, 18_001, RESET + 18_000), None),
    ],
    "not again because the reset is told otherwise": [
        (Seen(95), 10.0),
        (Seen(95, 60, RESET + 60), None),
        (Seen(95, 120, None), None),
    ],
    "what comes late says nothing": [
        (Seen(95, 10), 10.0),
        (Seen(70, 5), None),
        (Seen(95, 11), None),
    ],
}


@pytest.mark.parametrize("conversation", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_a_threshold_is_told_once_until_the_window_has_recovered(
    conversation: list[tuple[Seen, float | None]],
) -> None:
    seen, wanted = zip(*conversation, strict=True)
    assert told(*seen) == list(wanted)


def test_without_thresholds_nothing_is_told() -> None:
    assert told(Seen(50), Seen(100), thresholds=()) == [None, None]


def test_each_account_and_each_window_has_its_own_latch() -> None:
    alerts = QuotaAlerts()
    low, high = Window(used_percent=80), Window(used_percent=10)
    both = Limits(observed_unix_s=NOW, primary=low, secondary=low)
    [first, second] = alerts.observe("work", both, thresholds=THRESHOLDS)
    assert (first.window_name, second.window_name) == ("primary", "secondary")
    assert (first.remaining_percent, first.window) == (20.0, low)
    assert alerts.observe("work", both, thresholds=THRESHOLDS) == ()
    assert len(alerts.observe("home", both, thresholds=THRESHOLDS)) == 2
    # The weekly one is back; the other one was not spoken of, and stays latched.
    back = Limits(observed_unix_s=NOW, secondary=high)
    assert alerts.observe("work", back, thresholds=THRESHOLDS) == ()
    [again] = alerts.observe("work", both, thresholds=THRESHOLDS)
    assert again.window_name == "secondary"


def test_a_wider_threshold_that_is_added_is_told() -> None:
    alerts = QuotaAlerts()
    limits = Limits(observed_unix_s=NOW, primary=Window(used_percent=80))
    assert [a.threshold_percent for a in alerts.observe("a", limits, thresholds=[25])] == [25]
    assert [a.threshold_percent for a in alerts.observe("a", limits, thresholds=[25, 50])] == [50]


_PERCENT: Final = st.integers(0, 110).map(float)


@given(
    used=st.lists(_PERCENT, max_size=30),
    thresholds=st.lists(st.integers(1, 100).map(float), max_size=4, unique=True).map(tuple),
)
def test_what_is_told_is_the_tightest_threshold_that_the_step_has_passed(
    used: list[float], thresholds: tuple[float, ...]
) -> None:
    said = told(*(Seen(one) for one in used), thresholds=thresholds)
    #: The most that has remained since each threshold was told.
    most = dict.fromkeys(thresholds, 100.0)
    for one, alert in zip(used, said, strict=True):
        remaining = max(0.0, 100.0 - one)
        most = {t: max(before, remaining) for t, before in most.items()}
        passed = [t for t in thresholds if remaining < t and most[t] >= min(t + 5, 100.0)]
        assert alert == min(passed, default=None)
        most |= dict.fromkeys((t for t in thresholds if remaining < t), remaining)


# Through the outer door.

_STREAM: Final = events.created() + events.text("hi") + events.completed()


async def lines_after(
    folder: Path, used: list[int], backend: CodexBackendSettings
) -> list[dict[str, object]]:
    """Have the backend tell these percentages, one with each turn; return the alerts' lines."""
    left = iter(used)
    clock = WallClock()

    async def script(caller: Caller) -> None:
        while await caller.request():
            quota = (
                f"x-codex-primary-used-percent: {next(left)}\r\n"
                "x-codex-primary-window-minutes: 300\r\n"
                f"x-codex-primary-reset-at: {int(clock()) + 600}\r\n"
            )
            head = f"HTTP/1.1 200 OK\r\n{quota}content-length: {len(_STREAM)}\r\n\r\n"
            await caller.send(head.encode() + _STREAM)

    with capture_logs() as logged:
        async with (
            serving(script) as upstream,
            relaying(
                folder,
                Simulator(wall_clock=clock),
                backend=attrs.evolve(backend, api_base_url=upstream.url),
            ) as relay,
        ):
            for _ in used:
                assert (await relay.post("/v1/responses", ask())).status_code == 200
    return [dict(line) for line in logged if line["event"] == "account's quota runs low"]


async def test_the_owner_is_told_in_the_log_once_for_each_threshold(tmp_path: Path) -> None:
    lines = await lines_after(tmp_path, [50, 76, 80, 95, 96], CodexBackendSettings())
    assert [(line["remaining_percent"], line["below_percent"]) for line in lines] == [
        (24.0, 25.0),
        (5.0, 10.0),
    ]
    for line in lines:
        assert (line["log_level"], line["account"], line["window"]) == ("warning", "sim-1", "5 h")
        assert str(line["resets_at"]).endswith("+00:00")


@pytest.mark.parametrize(
    "managed",
    [
        {"quota_remaining_alerts_enabled": False},
        {"quota_remaining_alert_thresholds_percent": ()},
        {"quota_remaining_alert_thresholds_percent": (3.0,)},
    ],
    ids=["switched off", "no threshold", "not passed"],
)
async def test_no_line_is_written_where_none_is_wanted(
    tmp_path: Path, managed: dict[str, object]
) -> None:
    assert await lines_after(tmp_path, [76, 95], with_accounts(**managed)) == []
