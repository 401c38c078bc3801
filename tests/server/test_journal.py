"""The journal of turns: what is written down of each, and how it is found again."""

from __future__ import annotations

import functools
import multiprocessing
import stat
import sys
from typing import TYPE_CHECKING

import pytest
import trio
from structlog.testing import capture_logs

from codexrelay.accounts.files import new_lock
from codexrelay.protocol.raw import JsonObject, dump, get_list, is_object, parse_object
from codexrelay.server import journal
from codexrelay.server.journal import MAX_WAITING, MOST_NAMED, Journal, find
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes.cancel_at_step import CancelAtStep
from tests.fakes.relay import ask, ask_chat, eventually, relaying
from tests.fakes.simulated import user

if TYPE_CHECKING:
    from pathlib import Path

FILE = "turns.jsonl"
OLDER = "turns.older.jsonl"


def line(request: str, **more: object) -> JsonObject:
    return {"request": request, "state": "turn completed", **more}  # type: ignore[dict-item]


async def written(folder: Path, *lines: JsonObject) -> Journal:
    kept = Journal(folder)
    for one in lines:
        kept.note(one)
    await kept.write()
    return kept


def requests_in(path: Path) -> list[str]:
    return [str(parse_object(text)["request"]) for text in path.read_bytes().splitlines()]


async def test_lines_are_appended_in_order(tmp_path: Path) -> None:
    await written(tmp_path, line("1"), line("2"))
    await written(tmp_path, line("3"))
    assert requests_in(tmp_path / FILE) == ["1", "2", "3"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
async def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    await written(folder, line("1"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


async def test_a_turn_is_found_by_its_request_its_response_or_as_the_last_one(
    tmp_path: Path,
) -> None:
    await written(tmp_path, line("1", response="resp_1"), line("2", response="resp_2"), line("3"))
    assert find(tmp_path, "1") == line("1", response="resp_1")
    assert find(tmp_path, "resp_2") == line("2", response="resp_2")
    assert find(tmp_path, "last") == line("3")
    assert find(tmp_path, "4") is None
    assert find(tmp_path / "nowhere", "last") is None


async def test_of_several_lines_about_a_turn_the_last_one_counts(tmp_path: Path) -> None:
    await written(tmp_path, {"request": "1", "state": "waiting"}, line("2"), line("1"))
    found = find(tmp_path, "1")
    assert found is not None
    assert found["state"] == "turn completed"


async def test_a_line_that_a_crash_has_cut_costs_no_other(tmp_path: Path) -> None:
    await written(tmp_path, line("1"), line("2"))
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-9])
    assert find(tmp_path, "2") is None
    assert find(tmp_path, "last") == line("1")
    await written(tmp_path, line("3"))
    assert find(tmp_path, "3") == line("3"), "it begins on a line of its own"
    assert find(tmp_path, "last") == line("3")


async def test_a_file_that_grows_too_large_makes_room_and_is_kept_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(dump(line("1"))) + 1
    monkeypatch.setattr(journal, "MAX_BYTES", 2 * size)
    for number in range(1, 6):
        await written(tmp_path, line(str(number)))
    assert requests_in(tmp_path / OLDER) == ["3", "4"]
    assert requests_in(tmp_path / FILE) == ["5"]
    assert find(tmp_path, "4") == line("4"), "what was moved is found too"
    assert find(tmp_path, "2") is None


async def test_a_disk_that_cannot_be_written_to_is_told_once_and_again_after_it_was_well(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "state"
    folder.write_bytes(b"a file where the folder should be")
    with capture_logs() as logged:
        kept = Journal(folder)
        for number in range(3):
            kept.note(line(str(number)))
            await kept.write()
        folder.unlink()
        kept.note(line("3"))
        await kept.write()
        (folder / FILE).unlink()
        (folder / FILE).mkdir()
        kept.note(line("4"))
        await kept.write()
    told = [entry for entry in logged if entry["event"] == "turns are not written down"]
    assert [entry["folder"] for entry in told] == [str(folder)] * 2
    assert all(entry["why"] for entry in told)


async def test_lines_that_the_disk_never_takes_do_not_pile_up(tmp_path: Path) -> None:
    kept = Journal(tmp_path)
    for number in range(MAX_WAITING + 5):
        kept.note(line(str(number)))
    await kept.write()
    written_down = requests_in(tmp_path / FILE)
    assert (len(written_down), written_down[0]) == (MAX_WAITING, "5")


def test_whenever_the_relay_stops_what_was_noted_is_written(tmp_path: Path) -> None:
    async def main(folder: Path, step: int) -> bool:
        kept = Journal(folder)
        kept.note(line("1"))
        with trio.CancelScope() as scope:
            instrument = CancelAtStep(scope, step)
            trio.lowlevel.add_instrument(instrument)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kept.keep_writing)
                await trio.sleep(1)
                kept.note(line("2"))
                await trio.sleep(1)
                nursery.cancel_scope.cancel()
            trio.lowlevel.remove_instrument(instrument)
        return scope.cancelled_caught

    for step in range(1, 100):
        folder = tmp_path / str(step)
        clock = trio.testing.MockClock(autojump_threshold=0)
        cancelled = trio.run(functools.partial(main, folder, step), clock=clock)
        found = requests_in(folder / FILE)
        assert found in (["1"], ["1", "2"]), f"stopped before step {step}"
        if not cancelled:
            assert found == ["1", "2"]
            assert step > 5
            return
    pytest.fail("it was never done")


async def test_a_file_that_another_relay_keeps_to_itself_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_LOCK_S", 0.01)
    kept = await written(tmp_path, line("1"))
    with capture_logs() as logged:
        with new_lock(tmp_path / "turns.lock"):
            kept.note(line("2"))
            await kept.write()
        kept.note(line("3"))
        await kept.write()
    assert requests_in(tmp_path / FILE) == ["1", "3"]
    assert [entry["event"] for entry in logged] == ["turns are not written down"]


def _write_many(folder: Path, name: str) -> None:
    async def main() -> None:
        for number in range(40):
            await written(folder, line(f"{name}{number}", padding="x" * 500))

    trio.run(main)


def test_two_processes_write_into_one_file_and_no_line_is_torn(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(2) as pool:
        pool.starmap(_write_many, [(tmp_path, "a"), (tmp_path, "b")])
    found = requests_in(tmp_path / FILE)
    for name in "ab":
        assert [one for one in found if one[0] == name] == [f"{name}{n}" for n in range(40)]


# through the outer door


async def test_a_turn_is_written_down_with_its_way_and_told_in_one_log_line(tmp_path: Path) -> None:
    with capture_logs() as logged:
        async with relaying(tmp_path, Simulator(accounts=some_accounts(2))) as relay:
            relay.simulator.limit("sim-1", resets_in_s=600)
            answer = await relay.post("/v1/responses", ask(), headers={"user-agent": "agent/1 x"})
            request_id = answer.headers["x-codexrelay-request-id"]
            found = await relay.journal(request_id)
            response_id = str(found["response"])
            assert await relay.journal(response_id) == found
            assert await relay.journal("last") == found
    assert response_id in answer.text
    assert found["request"] == request_id
    assert (found["state"], found["protocol"], found["model"], found["client"]) == (
        "turn completed",
        "responses",
        "gpt-5.5",
        "agent/1",
    )
    assert (found["account"],) == ("sim-2",)
    first, second = found["attempts"]  # type: ignore[misc]
    assert (first["account"], first["served"], first["reached"]) == ("sim-1", False, "sent")
    assert first["fault"]["code"] is None
    assert (first["fault"]["kind"], first["fault"]["type"]) == ("limited", "usage_limit_reached")
    assert (second["account"], second["served"], second["fault"]) == ("sim-2", True, None)
    [passed] = second["passed_over"]
    assert (passed["account"], passed["why"]) == ("sim-1", "cooling")
    assert passed["told"].startswith("account sim-1 waits 10 min for its quota")
    [told] = [entry for entry in logged if entry.get("request") == request_id and "tried" in entry]
    assert (told["event"], told["account"], told["attempts"]) == ("turn completed", "sim-2", 2)
    assert told["tried"] == "sim-1 429 usage_limit_reached (sent), sim-2"
    assert isinstance(told["total_ms"], float)


async def test_a_turn_that_fails_is_written_down_with_what_the_client_was_told(
    tmp_path: Path,
) -> None:
    with capture_logs() as logged:
        async with relaying(tmp_path) as relay:
            answer = await relay.post("/v1/chat/completions", ask_chat("[sim fault=400]"))
            found = await relay.journal(answer.headers["x-codexrelay-request-id"])
    assert (found["state"], found["protocol"]) == ("turn failed", "chat")
    assert (found["fault"], found["why"]) == ("refused", "Instructions are not valid")
    [told] = [entry for entry in logged if entry["event"] == "turn failed"]
    assert told["log_level"] == "warning"
    assert told["tried"] == "sim-1 400 invalid_request_error (sent)"


async def test_of_a_turn_that_went_well_at_once_the_log_tells_no_way(tmp_path: Path) -> None:
    with capture_logs() as logged:
        async with relaying(tmp_path) as relay:
            await relay.post("/v1/responses", ask())
    [told] = [entry for entry in logged if entry["event"] == "turn completed"]
    assert (told["account"], told["attempts"], told["tried"]) == ("sim-1", 1, None)


async def test_a_turn_whose_client_leaves_is_written_down_with_how_far_it_got(
    tmp_path: Path,
) -> None:
    with capture_logs() as logged:
        async with relaying(tmp_path) as relay:
            async with relay.open_turn(ask("[sim fault=hang_early]")):
                await relay.until_asked()
            found = await relay.journal("last", state="client")
    [told] = [entry for entry in logged if entry["event"] == "client left"]
    assert told["tried"] == "sim-1 (sent)"
    assert found["state"] == "client left"
    [attempt] = found["attempts"]  # type: ignore[misc]
    assert (attempt["reached"], attempt["served"]) == ("sent", False)


async def test_a_compaction_is_written_down_like_a_turn(tmp_path: Path) -> None:
    body: JsonObject = {"model": "gpt-5.5", "input": [user("hello")]}
    async with relaying(tmp_path) as relay:
        answer = await relay.post("/v1/responses/compact", body)
        found = await relay.journal(answer.headers["x-codexrelay-request-id"])
    assert (found["state"], found["protocol"]) == ("turn completed", "compact")
    assert found["account"] == "sim-1"


async def test_neither_tokens_nor_what_was_said_are_written_down(tmp_path: Path) -> None:
    async with relaying(tmp_path, Simulator(accounts=some_accounts(2))) as relay:
        relay.simulator.queue_faults("401", "503", "limit_event")
        asked = ask("a wish nobody else may read", instructions="be discreet")
        headers = {"authorization": "Bearer sk-of-the-client", "x-session-id": "ses-of-the-client"}
        await relay.post("/v1/responses", asked, headers=headers)
        await relay.journal("last")
        tokens = [
            seen.header("authorization") or "" for seen in relay.simulator.seen if seen.account
        ]
    text = (relay.state / FILE).read_text(encoding="utf-8")
    words = [token.removeprefix("Bearer ") for token in tokens]
    words += ["wish", "discreet", "sk-of-the-client", "ses-of-the-client", "simulated backend"]
    assert len(words) > 5
    assert [word for word in words if word in text] == []


async def test_turns_go_on_when_the_journal_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"a file where the folder should be")
    with capture_logs() as logged:
        async with relaying(tmp_path) as relay:
            for _ in range(3):
                answer = await relay.post("/v1/responses", ask())
                assert answer.status_code == 200
            await eventually(
                lambda: any(entry["event"] == "turns are not written down" for entry in logged)
            )
    [_] = [entry for entry in logged if entry["event"] == "turns are not written down"]


async def test_a_large_pool_does_not_fill_the_journal(tmp_path: Path) -> None:
    simulator = Simulator(accounts=some_accounts(40))
    async with relaying(tmp_path, simulator) as relay:
        for account in simulator.accounts:
            relay.simulator.limit(account.name, resets_in_s=600)
        answer = await relay.post("/v1/responses", ask())
        assert answer.headers["x-codexrelay-attempts"] == "40"
        told = await relay.journal(answer.headers["x-codexrelay-request-id"])
    (refused,) = get_list(told, "refused")
    *named, rest = get_list(refused, "passed_over") if is_object(refused) else []
    assert len(named) == MOST_NAMED
    assert rest == {"told": f"{40 - MOST_NAMED} more accounts"}
    (attempt, *_) = get_list(told, "attempts")
    assert is_object(attempt)
    assert len(get_list(attempt, "candidates")) == MOST_NAMED
