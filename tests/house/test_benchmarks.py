"""The benchmarks' arithmetic and command line; what they measure needs a calm machine."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import attrs
import pytest

from benchmarks.arguments import STARTED, read_arguments
from benchmarks.bridges import BRIDGE_MEASUREMENTS, SSE_SSE, WS_WS, counted
from benchmarks.compression import compression_tables, read_samples
from benchmarks.figures import figures_of
from benchmarks.load import LoadGenerator, Report, Work
from benchmarks.measurements import MEASUREMENTS, Measurement, Row
from benchmarks.processes import line_in
from benchmarks.relay import environment_for_relay, write_files
from benchmarks.rounds import Rounds, rotated
from benchmarks.stub import Answers
from benchmarks.subject import (
    BARE_TRIO,
    CODEXRELAY,
    DIRECT,
    NGINX,
    MeasurementError,
    Subject,
    loopback_url,
)
from benchmarks.table import ratio, short, table
from benchmarks.targets import TARGETS, Ratio, Target, judged, targets_table
from codexrelay.accounts.store import AccountStore
from codexrelay.compaction.compressors import find_compressors
from codexrelay.config.environment import VARIABLES
from codexrelay.config.loading import load

if TYPE_CHECKING:
    from pathlib import Path

WORK = Work(path="/v1/responses", body={}, connections=1, deltas=5, limit_s=1)
REPORT = Report(
    complete=10,
    broken=0,
    unfinished=0,
    error="",
    events=50,
    events_per_s=500,
    requests_per_s=100,
    first_event_p50_us=2000,
    latency_p50_us=1000,
    latency_p99_us=9000,
    cpu_s=0.1,
    growth_bytes=None,
)
ADDED = Row(metric="first", label="added", added=True)
RATE = Row(metric="rate", label="rate")
FINISHED = Row(metric="finished", label="finished", fold=min, ratio=False)


def measuring(*rows: Row, once: bool = False) -> Measurement:
    return Measurement(
        name="m",
        work=lambda _: WORK,
        read=lambda report, _: {"rate": report.events_per_s},
        rows=rows,
        once=once,
    )


def results(**by_subject: dict[str, float]) -> dict[str, dict[str, dict[str, float]]]:
    return {"m": by_subject}


def test_an_added_time_is_taken_against_the_direct_one_of_the_same_round() -> None:
    rounds = [
        results(direct={"first": 1.0}, relay={"first": 3.0}),
        results(direct={"first": 7.0}, relay={"first": 8.0}),
        results(direct={"first": 1.0}, relay={"first": 9.0}),
    ]
    assert figures_of(rounds, [measuring(ADDED)])["m"]["first"] == {"direct": 1.0, "relay": 2.0}


def test_an_added_time_without_the_direct_one_is_none() -> None:
    assert figures_of([results(relay={"first": 3.0})], [measuring(ADDED)])["m"]["first"] == {}


def test_the_median_of_the_rounds_counts_and_the_worst_for_finished_streams() -> None:
    rounds = [results(relay={"rate": rate, "finished": rate}) for rate in (5.0, 1.0, 3.0)]
    figures = figures_of(rounds, [measuring(RATE, FINISHED)])
    assert figures == {"m": {"rate": {"relay": 3.0}, "finished": {"relay": 1.0}}}


def test_a_round_without_a_measurement_does_not_count() -> None:
    rounds = [results(relay={"rate": 4.0}), {}, results(relay={})]
    assert figures_of(rounds, [measuring(RATE)])["m"]["rate"] == {"relay": 4.0}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0123, "0.012"),
        (1.234, "1.23"),
        (99.96, "100"),
        (9999, "9999"),
        (67_700, "67.7 k"),
        (2_950_000, "2.95 M"),
        (-0.5, "-0.5"),
    ],
)
def test_a_figure_has_about_three_digits(value: float, said: str) -> None:
    assert short(value) == said


@pytest.mark.parametrize(
    ("value", "base", "said"),
    [
        (3.0, 2.0, "1.5"),
        (54.0, 2.0, "27"),
        (3.0, None, "-"),
        (3.0, 0.0, "-"),
        (-0.1, 2.0, "-"),
        (0.1, -2.0, "-"),
    ],
)
def test_a_ratio_needs_two_figures_that_are_no_noise(
    value: float, base: float | None, said: str
) -> None:
    assert ratio(value, base) == said


def test_the_table_shows_ratios_to_nginx_and_to_bare_trio() -> None:
    figures = {
        "m": {
            "first": {DIRECT: 0.5, "nginx": 1.0, "bare trio": 2.0, CODEXRELAY: 4.0},
            "rate": {},
            "finished": {"nginx": 500.0},
        }
    }
    subjects = (DIRECT, "nginx", "bare trio", CODEXRELAY)
    assert table(subjects, [measuring(ADDED, RATE, FINISHED)], figures).splitlines() == [
        "| measurement | direct | nginx | bare trio | codexrelay |",
        "| --- | --- | --- | --- | --- |",
        "| added | [0.5] | 1 (1 / 0.5) | 2 (2 / 1) | 4 (4 / 2) |",
        "| finished | - | 500 | - | - |",
    ]


def test_a_table_without_yardsticks_has_no_ratios() -> None:
    figures = {"m": {"rate": {CODEXRELAY: 4.0}}}
    lines = table((CODEXRELAY,), [measuring(RATE)], figures).splitlines()
    assert lines[2:] == ["| rate | 4 |"]


def target(**more: object) -> Target:
    return Target(measurement="m", metric="rate", label="rate", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("at_least", "value", "verdict"),
    [(False, 2.5, "ok"), (False, 2.51, "missed"), (True, 2.5, "ok"), (True, 2.49, "missed")],
)
def test_a_target_holds_at_its_limit(at_least: bool, value: float, verdict: str) -> None:
    one = target(limit=2.5, at_least=at_least)
    assert one.judge({"m": {"rate": {CODEXRELAY: value}}}).verdict == verdict


BESIDE = (Ratio(NGINX, 1.0), Ratio(BARE_TRIO, 3.0))


@pytest.mark.parametrize(
    ("value", "bare_trio", "verdict", "kept"),
    [
        (0.5, 1.0, "ok", True),
        (0.9, 1.0, "ok as a ratio: a slow machine", True),
        (0.5, 0.1, "ok (not as a ratio: a fast machine)", True),
        (0.9, 0.1, "missed", False),
    ],
)
def test_a_target_is_kept_absolutely_or_beside_bare_trio(
    value: float, bare_trio: float, verdict: str, kept: bool
) -> None:
    figures = {"m": {"rate": {CODEXRELAY: value, BARE_TRIO: bare_trio}}}
    said = target(limit=0.6, ratios=(Ratio(BARE_TRIO, 3.0),)).judge(figures)
    assert (said.verdict, said.kept) == (verdict, kept)


def test_the_first_base_that_was_measured_counts() -> None:
    with_nginx = {"m": {"rate": {CODEXRELAY: 2.0, NGINX: 1.0, BARE_TRIO: 1.0}}}
    assert target(ratios=BESIDE).judge(with_nginx).verdict == "missed"
    without = {"m": {"rate": {CODEXRELAY: 2.0, BARE_TRIO: 1.0}}}
    assert target(ratios=BESIDE).judge(without).verdict == "ok"
    alone = {"m": {"rate": {CODEXRELAY: 2.0}}}
    assert target(ratios=BESIDE).judge(alone).verdict == "not measured"


def test_the_targets_table_shows_limits_figures_and_verdict() -> None:
    figures = {"m": {"rate": {CODEXRELAY: 99_000.0, NGINX: 100_000.0}}}
    targets = [
        target(limit=100_000, ratios=BESIDE, at_least=True),
        target(limit=5, subject="never"),
    ]
    assert targets_table([each.judge(figures) for each in targets]).splitlines()[2:] == [
        "| rate | ≥ 100 k | 99 k | ≥ 1 x nginx | 0.99 | missed |",
        "| rate | ≤ 5 | - | - | - | not measured |",
    ]


def test_only_targets_of_what_was_measured_are_judged() -> None:
    said = judged({"burst": {"rate": {CODEXRELAY: 1.0}}}, [CODEXRELAY])
    assert [each.target.measurement for each in said] == ["burst", "burst"]
    assert judged({"burst": {"rate": {CODEXRELAY: 1.0}}}, [NGINX]) == []


def test_every_target_is_a_row_of_the_table() -> None:
    known = (*MEASUREMENTS, *BRIDGE_MEASUREMENTS)
    rows = {(m.name, row.metric) for m in known for row in m.rows}
    assert {(target.measurement, target.metric) for target in TARGETS} <= rows


def test_a_target_may_be_of_another_subject_than_the_relay() -> None:
    one = target(ratios=(Ratio(SSE_SSE, 1.3),), subject=WS_WS)
    said = one.judge({"m": {"rate": {WS_WS: 6.0, SSE_SSE: 4.0, CODEXRELAY: 1.0}}})
    assert (said.measured_ratio, said.verdict) == (1.5, "missed")
    assert one.judge({"m": {"rate": {SSE_SSE: 4.0}}}).verdict == "not measured"


@pytest.mark.parametrize(
    "measurement", [*MEASUREMENTS, *BRIDGE_MEASUREMENTS], ids=lambda measurement: measurement.name
)
def test_what_a_measurement_reads_are_its_rows(measurement: Measurement) -> None:
    subject = Subject("relay", "http://127.0.0.1:1", pid=1, start_s=0.5, idle_rss_bytes=4e7)
    work = measurement.work(1.0)
    report = attrs.evolve(REPORT, complete=work.connections, growth_bytes=1e6)
    assert set(measurement.read(report, subject)) == {row.metric for row in measurement.rows}


def test_without_the_process_there_are_no_cpu_figures() -> None:
    report = attrs.evolve(REPORT, cpu_s=None)
    for measurement in MEASUREMENTS:
        assert "cpu" not in measurement.read(report, Subject("relay", "http://127.0.0.1:1"))


def test_sockets_that_were_not_all_served_say_nothing_about_memory() -> None:
    for name in ("ws-idle", "ws-sessions"):
        (memory,) = (m for m in BRIDGE_MEASUREMENTS if m.name == name)
        connections = memory.work(1.0).connections
        report = attrs.evolve(REPORT, complete=connections - 1, growth_bytes=1e6)
        with pytest.raises(MeasurementError, match="not every connection"):
            memory.read(report, Subject(WS_WS, "http://127.0.0.1:1"))


def test_a_client_on_a_websocket_sends_a_message_and_says_so_to_the_load_generator(
    tmp_path: Path,
) -> None:
    work = attrs.evolve(WORK, body={"model": "m"}, sessions=True)
    subject = Subject(WS_WS, "http://127.0.0.1:1", websocket=True)
    command = LoadGenerator(tmp_path)._command(subject, work)
    assert {"-W", "-S"} <= set(command)
    assert json.loads((tmp_path / "body.json").read_text()) == {
        "type": "response.create",
        "model": "m",
    }
    assert "-W" not in LoadGenerator(tmp_path)._command(A, work)
    assert json.loads((tmp_path / "body.json").read_text()) == {"model": "m"}


def test_a_bridge_whose_backend_was_asked_otherwise_is_told_of() -> None:
    given = iter([Answers(10, 5), Answers(14, 7), Answers(14, 7), Answers(18, 7)])
    notes: list[str] = []
    run = counted(lambda *_: REPORT, A, notes.append, ask=lambda _: next(given))
    for name in (WS_WS, SSE_SSE):
        assert run(attrs.evolve(A, name=name), WORK) is REPORT
    assert notes == ["ws-ws: 2 of 4 answers came over a WebSocket"]


def test_streams_that_did_not_all_finish_say_nothing_about_memory() -> None:
    (memory,) = (m for m in MEASUREMENTS if m.name == "memory")
    report = attrs.evolve(REPORT, complete=499, growth_bytes=1e6)
    assert memory.read(report, Subject("relay", "http://127.0.0.1:1")) == {}


A, B, C = (Subject(name, f"http://127.0.0.1:{port}") for port, name in enumerate("abc", 1))


def rounds_of(
    reports: dict[str, Report], measurement: Measurement, told: list[str], notes: list[str]
) -> Rounds:
    def run(subject: Subject, _: Work) -> Report:
        if subject.name not in reports:
            raise MeasurementError("nothing arrived in time")
        return reports[subject.name]

    return Rounds(
        run=run,
        subjects=(A, B),
        measurements=(measurement,),
        scale=1.0,
        on_progress=told.append,
        on_note=notes.append,
    )


def test_each_round_begins_with_another_subject() -> None:
    assert [rotated([A, B, C], number)[0].name for number in range(4)] == ["a", "b", "c", "a"]
    assert rotated([A, B, C], 2) == [C, A, B]


def test_what_gave_nothing_is_a_note_and_no_result() -> None:
    told: list[str] = []
    notes: list[str] = []
    rounds = rounds_of({"b": REPORT}, measuring(RATE), told, notes)
    assert rounds.measure(0) == {"m": {"b": {"rate": 500}}}
    assert told == ["a, m, round 1", "b, m, round 1"]
    assert notes == ["a, m, round 1: nothing arrived in time"]


def test_replies_that_broke_are_a_note_beside_the_result() -> None:
    notes: list[str] = []
    report = attrs.evolve(REPORT, broken=2, unfinished=1, error="closed early")
    rounds = rounds_of({"a": report, "b": REPORT}, measuring(RATE), [], notes)
    assert set(rounds.measure(1)["m"]) == {"a", "b"}
    assert notes == [
        "a, m, round 2: 10 replies complete, 2 broken, 1 unfinished. closed early",
    ]


def test_some_measurements_are_of_websockets_only() -> None:
    measurement = attrs.evolve(measuring(RATE), websocket_only=True)
    rounds = rounds_of({"a": REPORT, "b": REPORT}, measurement, [], [])
    sockets = attrs.evolve(rounds, subjects=(A, attrs.evolve(B, websocket=True)))
    assert set(sockets.measure(0)["m"]) == {"b"}


def test_what_is_asked_of_processes_is_not_asked_of_the_stub() -> None:
    measurement = attrs.evolve(measuring(RATE), of_processes=True)
    rounds = rounds_of({"a": REPORT, "b": REPORT}, measurement, [], [])
    processes = attrs.evolve(rounds, subjects=(A, attrs.evolve(B, pid=1)))
    assert set(processes.measure(0)["m"]) == {"b"}


def test_some_measurements_belong_to_the_first_round_only() -> None:
    rounds = rounds_of({"a": REPORT, "b": REPORT}, measuring(RATE, once=True), [], [])
    assert set(rounds.measure(0)) == {"m"}
    assert rounds.measure(1) == {}


def test_a_plain_run_is_one_quick_round_with_every_letter_of_the_targets() -> None:
    options = read_arguments([])
    assert (options.rounds, options.started, options.name) == (1, STARTED, "quick")
    assert (options.bridges, options.compression) == ((), False)
    assert options.scale < 1
    names = {measurement.name for measurement in options.measurements}
    letters = {each.label[:3] for each in TARGETS if each.measurement in names}
    assert letters == {f"({letter})" for letter in "abcdefg"}


def test_a_full_run_is_three_rounds_of_everything_unless_told_otherwise() -> None:
    full = read_arguments(["--full"])
    assert (full.rounds, full.scale, full.name) == (3, 1.0, "full")
    assert (full.measurements, full.bridges) == (MEASUREMENTS, BRIDGE_MEASUREMENTS)
    assert full.compression
    assert read_arguments(["--full", "--rounds", "5"]).rounds == 5


def test_measurements_and_yardsticks_can_be_chosen() -> None:
    options = read_arguments(["--only", "burst, 500x5", "--without", "nginx,one pump"])
    assert [measurement.name for measurement in options.measurements] == ["burst", "500x5"]
    assert options.started == ("bare trio", CODEXRELAY)
    assert options.bridges == ()
    assert not options.compression


def test_the_bridges_need_the_relay_and_no_yardstick() -> None:
    options = read_arguments(["--only", "ws-burst"])
    assert (options.measurements, [m.name for m in options.bridges]) == ((), ["ws-burst"])
    assert read_arguments(["--without", CODEXRELAY]).bridges == ()


def test_compression_alone_needs_nothing_started() -> None:
    options = read_arguments(["--only", "compression"])
    assert (options.measurements, options.compression) == ((), True)
    assert options.name == "some"


def test_the_tables_of_compression_have_every_sample_and_every_compressor() -> None:
    tables = compression_tables(1)
    assert [name for name in read_samples() if f"\n| {name} | " not in tables] == []
    names = [compressor.name for compressor in find_compressors()]
    assert [name for name in names if f"\n| {name}, " not in tables] == []


def test_another_relay_is_named_by_its_url_and_process() -> None:
    options = read_arguments(
        ["--stub-port", "9100", "--relay", "us=http://localhost:8787/v1,42", "--header", "a: b"]
    )
    assert options.relays == (Subject("us", "http://127.0.0.1:8787", 42),)
    assert (options.stub_port, options.headers) == (9100, ("a: b",))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--only", "brust"], "unknown: brust; known: first-event"),
        (["--without", "nginks"], "unknown: nginks"),
        (["--rounds", "0"], "a whole number from 1"),
        (["--quick", "--full"], "not allowed with"),
        (["--relay", "us=http://127.0.0.1:8787"], "needs --stub-port"),
        (["--relay", "us=http://192.0.2.1:80", "--stub-port", "1"], "http://127.0.0.1:PORT"),
        (["--relay", "http://127.0.0.1:80", "--stub-port", "1"], "NAME=http://127.0.0.1:PORT"),
    ],
)
def test_a_bad_argument_is_explained(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read_arguments(arguments)
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1:1", "http://192.0.2.1:80", "http://127.0.0.1", "http://127.0.0.1:1/x"],
)
def test_only_this_machine_is_measured(url: str) -> None:
    with pytest.raises(ValueError, match="is needed"):
        loopback_url(url)


def test_a_line_counts_once_it_is_whole(tmp_path: Path) -> None:
    said = tmp_path / "said"
    pattern = re.compile(r"ready at (\S+)")
    said.write_text("hello\nready at http://127.0.0.1:87")
    assert line_in(said, pattern) is None
    said.write_text("hello\nready at http://127.0.0.1:8787\nmore")
    assert line_in(said, pattern) == "http://127.0.0.1:8787"


def test_the_relay_is_configured_with_the_stub_and_one_account(tmp_path: Path) -> None:
    config = write_files(tmp_path / "home", stub_url="http://127.0.0.1:9100", now_unix_s=1e9)
    loaded = load(config_path=config, environ={}, flags={})
    codex = loaded.settings.backends.openai_codex
    managed = codex.extra.codex.managed_oauth
    assert codex.api_base_url == "http://127.0.0.1:9100/v1"
    assert codex.extra.codex.oauth_issuer == "http://127.0.0.1:9100"
    assert not managed.allow_legacy_fallback
    stored = AccountStore(tmp_path / "home" / "accounts").load()
    assert managed.storage_path == str(tmp_path / "home" / "accounts")
    assert stored.problems == ()
    assert [account.id for account in stored.accounts] == ["bench"]


def test_no_variable_can_point_the_relay_elsewhere() -> None:
    ours = dict.fromkeys((*VARIABLES, "CODEXRELAY_CONFIG", "CODEX_HOME", "PATH"), "x")
    assert environment_for_relay(ours) == {"PATH": "x"}
