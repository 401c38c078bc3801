"""What is said of figures that were made up; what is measured needs a calm machine."""

from __future__ import annotations

import contextlib
import marshal
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, cast

import attrs
import pytest

from benchmarks.growth.curve import Curve, medians, spread, verdict
from benchmarks.growth.curves import CURVES, Measured
from benchmarks.growth.ground import EVENTS_PER_S, RELAY, TRIO, Ground, Kind
from benchmarks.growth.plot import Chart, Line, as_html, as_svg
from benchmarks.growth.report import charts_of, curve_table
from benchmarks.load import Report, Window, Work
from benchmarks.relay import write_files
from benchmarks.subject import BARE_TRIO, CODEXRELAY, MeasurementError, Subject
from codexrelay.accounts.store import AccountStore
from codexrelay.config.loading import load

if TYPE_CHECKING:
    from collections.abc import Iterator

CURVE = Curve(
    name="c",
    title="Things",
    x_label="things",
    y_label="CPU per thing, ms",
    points=(1, 10, 100, 1000),
    bound=1.5,
)
REPORT = Report(
    complete=100,
    broken=0,
    unfinished=0,
    error="",
    events=500,
    events_per_s=500,
    requests_per_s=100,
    first_event_p50_us=2000,
    latency_p50_us=1000,
    latency_p99_us=9000,
    cpu_s=0.2,
    growth_bytes=None,
)


def test_the_first_point_does_not_count_for_the_verdict() -> None:
    assert verdict(CURVE, {1: 99.0, 10: 2.0, 100: 3.0, 1000: 2.5}) == "flat: 1.50 ≤ 1.5"


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        ({10: 2.0, 100: 2.1, 1000: 4.0}, "grows: 2.00 > 1.5, 2 at 10 and 4 at 1,000"),
        ({10: 4.0, 100: 2.1, 1000: 2.0}, "falls: 2.00 > 1.5, 2 at 1,000 and 4 at 10"),
        ({1: 2.0, 10: 2.0}, "not measured"),
        ({10: 2.0, 100: -0.1, 1000: 0.0}, "not measured"),
        ({}, "not measured"),
    ],
    ids=["grows", "falls", "one point", "noise", "nothing"],
)
def test_a_curve_that_is_not_flat_is_told_where(costs: dict[float, float], said: str) -> None:
    assert verdict(CURVE, costs) == said


def test_the_spread_names_cheapest_and_dearest() -> None:
    found = spread({1: 0.1, 10: 5.0, 100: 2.0, 1000: 4.0}, first=1)
    assert found is not None
    assert (found.cheapest_at, found.dearest_at, found.ratio) == (100, 10, 2.5)


def test_the_median_of_the_rounds_counts_where_there_is_one() -> None:
    rounds = [
        {"relay": {10.0: 3.0, 1.0: 7.0}},
        {"relay": {1.0: 1.0}, "trio": {1.0: 0.5}},
        {"relay": {1.0: 2.0}},
    ]
    assert medians(rounds) == {"relay": {1.0: 2.0, 10.0: 3.0}, "trio": {1.0: 0.5}}
    assert list(medians(rounds)["relay"]) == [1.0, 10.0]


def test_the_table_shows_the_ratio_to_bare_trio_at_each_point() -> None:
    costs = {BARE_TRIO: {1: 0.5, 10: 0.5, 100: 0.5}, CODEXRELAY: {1: 2.0, 10: 2.0, 1000: 2.2}}
    assert curve_table(CURVE, costs).splitlines() == [
        "| Things: things | bare trio, CPU per thing, ms | codexrelay, CPU per thing, ms |",
        "| --- | --- | --- |",
        "| 1 | 0.5 | 2 (4) |",
        "| 10 | 0.5 | 2 (4) |",
        "| 100 | 0.5 | - |",
        "| 1,000 | - | 2.2 |",
        "| **verdict** | flat: 1.00 ≤ 1.5 | flat: 1.10 ≤ 1.5 |",
    ]


def test_a_plot_has_a_mark_for_each_figure_and_a_tick_for_each_point() -> None:
    (chart,) = charts_of([(CURVE, {"a <b>": {1: 0.2, 100: 0.2}, "c": {10: 0.1}})])
    root = ET.fromstring(as_svg(chart).replace("<svg ", '<svg xmlns="s" ', 1))
    assert len(root.findall("{s}circle")) == 3
    said = [text.text for text in root.findall("{s}text")]
    assert [each for each in said if each in ("1", "10", "100")] == ["1", "10", "100"]
    assert chart.remarks == ("a <b>: not measured", "c: not measured")
    first, second = root.findall("{s}circle")[:2]
    assert first.get("cy") == second.get("cy"), "the same cost is at the same height"


def test_a_page_needs_nothing_beside_it_and_shows_what_it_is_told_as_text() -> None:
    chart = Chart(title="a <b>", x_label="x", y_label="y", lines=(Line("one", ((1.0, 2.0),)),))
    page = as_html("Growth", "how & where", [chart], ["a note <i>"])
    assert "a &lt;b&gt;" in page
    assert "how &amp; where" in page
    assert "a note &lt;i&gt;" in page
    assert "<svg" in page
    assert "http" not in page
    assert "src=" not in page


@pytest.mark.parametrize("costs", [{}, {1.0: 0.0}], ids=["no figure", "a cost of nothing"])
def test_a_plot_of_nearly_nothing_is_a_plot(costs: dict[float, float]) -> None:
    (chart,) = charts_of([(CURVE, {"a": costs})])
    assert as_svg(chart).endswith("</svg>")


SUBJECT = Subject(CODEXRELAY, "http://127.0.0.1:1", pid=1)


@attrs.define
class FakeLoad:
    """Says that all went well, and what it was asked to do."""

    share: float = 1.0
    most_turns: int = 100_000
    works: list[Work] = attrs.field(factory=list)

    def run(self, _: Subject, work: Work) -> Report:
        self.works.append(work)
        turns = min(work.max_requests, self.most_turns)
        return attrs.evolve(REPORT, complete=turns) if turns else REPORT

    def run_window(self, _: Subject, work: Work, *, begins_s: float) -> tuple[Report, Window]:
        self.works.append(work)
        length_s = work.limit_s - begins_s
        events = round(EVENTS_PER_S * length_s * self.share)
        return REPORT, Window(events=events, length_s=length_s, cpu_s=events * 40e-6)


@attrs.define
class FakeGround:
    """Starts nothing."""

    load: FakeLoad = attrs.field(factory=FakeLoad)
    events_per_s: int = EVENTS_PER_S
    file: Path = Path("nowhere")
    started_with: list[tuple[Kind, int, int | None]] = attrs.field(factory=list)

    @contextlib.contextmanager
    def started(
        self, kind: Kind, *, accounts: int = 1, max_sessions: int | None = None
    ) -> Iterator[Subject]:
        self.started_with.append((kind, accounts, max_sessions))
        yield attrs.evolve(SUBJECT, name=kind.name)

    @contextlib.contextmanager
    def observed(
        self, *, accounts: int = 1, max_sessions: int | None = None
    ) -> Iterator[FakeObserved]:
        self.started_with.append((RELAY, accounts, max_sessions))
        yield FakeObserved(self.file)


@attrs.define
class FakeObserved:
    """A relay that makes 500 calls in all, whatever it is sent."""

    file: Path
    subject: Subject = SUBJECT

    @contextlib.contextmanager
    def observed(self) -> Iterator[None]:
        yield
        profile = {("a.py", 1, "a"): (1, 400, 0.0, 0.0, {}), ("~", 0, "b"): (1, 100, 0.0, 0.0, {})}
        self.file.write_bytes(marshal.dumps(profile))


def measured(name: str) -> Measured:
    (found,) = (each for each in CURVES if each.curve.name == name)
    return found


@pytest.mark.parametrize("each", CURVES, ids=lambda each: each.curve.name)
def test_every_point_of_a_curve_can_be_measured(each: Measured, tmp_path: Path) -> None:
    assert list(each.curve.points) == sorted(each.curve.points)
    assert RELAY in each.kinds
    assert TRIO in each.kinds or each.curve.y_label == "calls per turn"
    ground = FakeGround(file=tmp_path / "calls")
    cost = each.measure(cast("Ground", ground), RELAY, each.curve.points[1], 1.0)
    assert cost.note == ""
    assert len(ground.started_with) == 1, "each point has programs of its own"


@pytest.mark.parametrize("streams", measured("streams").curve.points)
def test_all_streams_together_have_one_rate_until_the_last_moment_counts(streams: float) -> None:
    ground = FakeGround()
    cost = measured("streams").measure(cast("Ground", ground), RELAY, streams, 1.0)
    assert cost.value == pytest.approx(40.0)
    (work,) = ground.load.works
    assert work.connections == streams
    assert work.deltas * streams / EVENTS_PER_S > work.limit_s
    assert f"us={1_000_000 * int(streams) // EVENTS_PER_S} " in str(work.body)


def test_who_falls_behind_has_no_cost() -> None:
    ground = FakeGround(FakeLoad(share=0.5))
    with pytest.raises(MeasurementError, match="fell behind: 50%"):
        measured("streams").measure(cast("Ground", ground), RELAY, 10, 1.0)


def test_every_session_has_had_a_turn_before_turns_are_counted() -> None:
    ground = FakeGround()
    cost = measured("sessions").measure(cast("Ground", ground), RELAY, 1000, 1.0)
    warm, counted = ground.load.works
    assert (warm.max_requests, counted.max_requests) == (1000, 0)
    assert warm.sessions_in_turn == counted.sessions_in_turn
    assert list(counted.options())[-4:-2] == ["-k", "1000"]
    assert ground.started_with == [(RELAY, 1, 2000)]
    assert cost.value == pytest.approx(2.0)


def test_the_accounts_of_a_point_are_the_relays() -> None:
    ground = FakeGround()
    measured("accounts").measure(cast("Ground", ground), RELAY, 50, 1.0)
    assert ground.started_with == [(RELAY, 50, None)]


def test_calls_are_counted_after_each_account_has_had_a_turn(tmp_path: Path) -> None:
    ground = FakeGround(file=tmp_path / "calls")
    cost = measured("account-calls").measure(cast("Ground", ground), RELAY, 200, 1.0)
    warm, counted = ground.load.works
    assert warm.max_requests > 200
    assert counted.max_requests < 200
    assert cost.value == pytest.approx(500 / counted.max_requests)


def test_a_point_that_could_not_be_prepared_has_no_cost() -> None:
    ground = FakeGround(FakeLoad(most_turns=99))
    with pytest.raises(MeasurementError, match="only 99 of 10,000 turns"):
        measured("sessions").measure(cast("Ground", ground), RELAY, 10_000, 1.0)


def test_a_relay_may_be_given_many_accounts_and_room_for_many_sessions(tmp_path: Path) -> None:
    config = write_files(
        tmp_path / "home",
        stub_url="http://127.0.0.1:9100",
        now_unix_s=1e9,
        accounts=3,
        max_sessions=7,
    )
    assert load(config_path=config, environ={}, flags={}).settings.sessions.max_sessions == 7
    stored = AccountStore(tmp_path / "home" / "accounts").load()
    assert stored.problems == ()
    assert {account.id for account in stored.accounts} == {"bench", "bench-1", "bench-2"}
    assert len({account.workspace_id for account in stored.accounts}) == 3
