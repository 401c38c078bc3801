"""The recorded conversations of real programs: what the relay answered then, it answers today.

`python -m harness tape` makes them, `python -m harness golden` shows and accepts what has changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from harness.cassettes import file
from harness.compat.command import DRIVERS
from harness.golden.judging import differences
from harness.proof.wires import UNSUPPORTED

if TYPE_CHECKING:
    from harness.cassettes.model import Cassette, Interaction, Response

FOLDER: Final = Path(__file__).parents[2] / "cassettes"
FILES: Final = sorted(FOLDER.glob("*/*/*.yaml"))
#: For each program.
LEAST_SCENARIOS: Final = 10

in_virtual_time = pytest.mark.skipif(UNSUPPORTED is not None, reason=UNSUPPORTED or "")
every_cassette = pytest.mark.parametrize(
    "path", FILES, ids=lambda path: path.relative_to(FOLDER).with_suffix("").as_posix()
)


@in_virtual_time
@every_cassette
def test_a_recorded_conversation_is_answered_byte_for_byte_as_it_was(path: Path) -> None:
    assert differences(file.read(path)) == ()


@every_cassette
def test_a_cassette_says_honestly_what_it_is(path: Path) -> None:
    cassette = file.read(path)
    about = cassette.about
    assert (about.origin, about.complete) == ("simulator", True)
    assert path == FOLDER / str(about.client) / str(about.scenario) / path.name
    assert path.stem.startswith(str(about.client))
    assert cassette.track("client")
    assert cassette.track("upstream")


def test_every_program_is_recorded_in_ten_scenarios_and_in_each_of_its_ways() -> None:
    recorded = {driver.name: set[str]() for driver in DRIVERS}
    rows = set()
    for path in FILES:
        client, scenario = path.parts[-3:-1]
        recorded[client].add(scenario)
        rows.add(path.stem)
    assert {
        name: len(found) for name, found in recorded.items() if len(found) < LEAST_SCENARIOS
    } == {}
    assert rows == {variant.name for driver in DRIVERS for variant in driver.variants}


@in_virtual_time
def test_a_recording_of_no_scenario_is_answered_by_accounts_of_the_recorded_names() -> None:
    conversation = file.read(FOLDER / "sdk" / "text" / "sdk-chat.yaml")
    renamed = attrs.evolve(
        conversation,
        about=attrs.evolve(conversation.about, scenario=None),
        interactions=tuple(_answered_by(one, "sim-1") for one in conversation.interactions),
    )
    assert differences(renamed) == ()


def _answered_by(one: Interaction, account: str) -> Interaction:
    headers = tuple(
        (name, account if name == "x-codexrelay-account" else value)
        for name, value in one.response.headers
    )
    return attrs.evolve(one, response=attrs.evolve(one.response, headers=headers))


# --- that it can fail


def an_answer_changed(cassette: Cassette, number: int, response: Response) -> Cassette:
    return attrs.evolve(
        cassette,
        interactions=tuple(
            attrs.evolve(one, response=response) if one.number == number else one
            for one in cassette.interactions
        ),
    )


@pytest.fixture
def conversation() -> Cassette:
    return file.read(FOLDER / "sdk" / "tool" / "sdk-chat.yaml")


@in_virtual_time
def test_one_byte_that_was_recorded_otherwise_is_noticed(conversation: Cassette) -> None:
    one = conversation.track("client")[-1]
    body = one.response.body.replace(b"printed", b"Printed", 1)
    changed = attrs.evolve(one.response, body=body)
    found = differences(an_answer_changed(conversation, one.number, changed))
    assert any("the body differs" in told for told in found), found


@in_virtual_time
def test_a_request_that_the_relay_sends_otherwise_is_noticed(conversation: Cassette) -> None:
    one = conversation.track("client")[0]
    asked = attrs.evolve(one.request, body=one.request.body.replace(b"gpt-5.5", b"gpt-5.4", 1))
    changed = attrs.evolve(
        conversation,
        interactions=tuple(
            attrs.evolve(other, request=asked) if other.number == one.number else other
            for other in conversation.interactions
        ),
    )
    found = differences(changed)
    assert any("no recording matches" in told for told in found), found


@in_virtual_time
def test_a_status_and_a_header_that_were_recorded_otherwise_are_noticed(
    conversation: Cassette,
) -> None:
    one = conversation.track("client")[0]
    changed = attrs.evolve(one.response, status=201, headers=(*one.response.headers, ("x-a", "1")))
    found = differences(an_answer_changed(conversation, one.number, changed))
    assert any("status 200 instead of 201" in told for told in found), found
    assert any("header x-a is missing" in told for told in found), found
