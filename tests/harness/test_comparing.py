"""`python -m harness diff`, as a reviewer sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
from click.testing import CliRunner

from harness.cassettes import file
from harness.cassettes.model import Frame
from harness.comparing.cassettes import Options, differing
from harness.comparing.command import diff
from tests.fakes.cassettes import EVENTS, cassette, interaction

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from harness.cassettes.model import Cassette, Interaction


def told(old: Cassette, new: Cassette, *, exact: bool = False, times: bool = False) -> list[str]:
    """Return what differs, a line each: titles, and under them the differences."""
    found = differing(old, new, Options(exact=exact, times=times))
    return [line for one in found for line in (one.title, *map(str, one.differences))]


def one(number: int = 1, **changes: object) -> Cassette:
    return cassette(interaction(number, **changes))


def asking(body: bytes) -> Cassette:
    return one(request_body=body)


def answering(*events: bytes) -> Cassette:
    return one(body=b"".join(b"data: %s\n\n" % each for each in events))


def changed(**stream: object) -> Cassette:
    given = interaction()
    new = attrs.evolve(given.response.stream, **stream)
    return cassette(attrs.evolve(given, response=attrs.evolve(given.response, stream=new)))


def test_equal_cassettes_do_not_differ() -> None:
    assert told(one(), one()) == []
    assert told(one(), one(), exact=True, times=True) == []


def test_a_field_of_a_request_is_told_by_its_path() -> None:
    old = asking(b'{"model":"m","tools":[{"name":"shell"}],"input":[{"text":"x"}]}')
    new = asking(b'{"model":"n","tools":[{"name":"shell"},{"name":"view"}],"input":[{"text":"y"}]}')
    assert told(old, new) == [
        "client 1 POST /v1/responses",
        'request.body.model: "m" -> "n"',
        'request.body.tools[1]: added {"name": "view"}',
        'request.body.input[0].text: "x" -> "y"',
    ]


def test_json_in_a_text_is_compared_field_by_field() -> None:
    old = asking(b'{"arguments":"{\\"cmd\\":\\"ls\\",\\"n\\":1}"}')
    new = asking(b'{"arguments":"{\\"cmd\\":\\"pwd\\",\\"n\\":1}"}')
    assert told(old, new)[1:] == ['request.body.arguments{}.cmd: "ls" -> "pwd"']


def test_long_values_are_shown_where_they_part() -> None:
    old, new = (asking(b'{"text":"%s%s%s"}' % (b"a" * 500, c, b"z" * 500)) for c in (b"1", b"2"))
    (_, line) = told(old, new)
    assert line == (
        f"request.body.text: ...{'a' * 16}1{'z' * 43}... -> ...{'a' * 16}2{'z' * 43}..."
    )


def test_ids_may_have_other_names_as_long_as_they_belong_together() -> None:
    first = b'{"type":"a","id":"call_0123456789","call_id":"call_0123456789"}'
    other = first.replace(b"0123456789", b"9876543210")
    torn = first.replace(b"0123456789", b"9876543210", 1)
    assert told(answering(first), answering(other)) == []
    assert len(told(answering(first), answering(torn))) == 2
    assert told(answering(first), answering(other), exact=True)[1:] == [
        'response.events[0] (a).id: "call_0123456789" -> "call_9876543210"',
        'response.events[0] (a).call_id: "call_0123456789" -> "call_9876543210"',
    ]


def test_one_id_that_is_torn_tears_no_others() -> None:
    def named(*numbers: int) -> Cassette:
        return answering(*(b'{"type":"a","id":"call_000000%02d"}' % number for number in numbers))

    assert told(named(11, 11, 12, 13, 12), named(21, 29, 22, 23, 22))[1:] == [
        'response.events[1] (a).id: "call_00000011" -> "call_00000029"',
    ]


def test_ids_belong_together_behind_something_new_too() -> None:
    first, second = b'{"type":"a","id":"call_00000011"}', b'{"type":"a","id":"call_00000012"}'
    assert told(answering(first, second), answering(b'{"type":"x"}', first, first))[1:] == [
        'response.events[0]: added x {"type": "x"}',
        'response.events[2] (a).id: "call_00000012" -> "call_00000011"',
    ]


def test_values_of_other_kinds_differ_wherever_they_stand() -> None:
    for exact in (False, True):
        for was, now in [(b"1", b"true"), (b"1", b"1.0"), (b"null", b'""')]:
            old, new = asking(b'{"a":[%s]}' % was), asking(b'{"a":[%s]}' % now)
            assert told(old, new, exact=exact)[1].startswith("request.body.a[0]: "), (was, now)


def test_where_every_byte_counts_it_is_told_that_the_same_is_written_otherwise() -> None:
    spaced = asking(b'{"a": 1}')
    assert told(asking(b'{"a":1}'), spaced) == []
    assert told(asking(b'{"a":1}'), spaced, exact=True)[1:] == [
        "request.body: written in one way -> in another"
    ]
    lines = [f"response.body: {EVENTS!r}", "response.body: written in one way -> in another"]
    assert lines[1] in told(one(), one(body=EVENTS.replace(b"\n", b"\r\n")), exact=True)


def test_a_change_in_a_long_answer_that_repeats_itself_is_found_without_ado() -> None:
    def answer(*words: bytes) -> Cassette:
        return answering(*(b'{"type":"delta","delta":"%s"}' % word for word in words))

    # Comparing each with each would take minutes.
    many, few = [b"to", b"be"] * 2000, [b"to", b"be"] * 20
    old = answer(*many, *few, *many)
    assert told(old, answer(*many, b"or", *few, b"not", *many))[1:] == [
        'response.events[4000]: added delta {"type": "delta", "delta": "or"}',
        'response.events[4041]: added delta {"type": "delta", "delta": "not"}',
    ]


def test_random_letters_that_pad_an_event_are_no_difference() -> None:
    old, new = (answering(b'{"type":"a","obfuscation":"%s"}' % pad) for pad in (b"xQ", b"aPz"))
    assert told(old, new) == []
    assert told(old, new, exact=True)[1:] == [
        'response.events[0] (a).obfuscation: "xQ" -> "aPz"',
        "response.stream.ends[0]: 19 -> 20",
    ]


def test_when_a_limit_ends_is_no_difference() -> None:
    def limited(after: str, at: int) -> Cassette:
        headers = (("x-codex-primary-reset-after-seconds", after), ("x-codex-plan-type", "plus"))
        event = b'data: {"type":"codex.rate_limits","reset_after_seconds":%s,"reset_at":%d}\n\n'
        return one(headers=headers, body=event % (after.encode(), at))

    assert told(limited("3598", 1795857153), limited("3591", 1795859722)) == []
    assert told(limited("3598", 1795857153), limited("3591", 1795859722), exact=True)


def test_an_event_that_is_new_or_gone_does_not_shift_the_others() -> None:
    old = answering(b'{"type":"a","n":1}', b'{"type":"b","n":2}', b'{"type":"c","n":3}')
    new = answering(b'{"type":"x"}', b'{"type":"a","n":1}', b'{"type":"c","n":4}')
    assert told(old, new)[1:] == [
        'response.events[0]: added x {"type": "x"}',
        'response.events[1]: removed b {"type": "b", "n": 2}',
        "response.events[2] (c).n: 3 -> 4",
    ]


def test_an_answer_that_is_cut_shows_what_it_lacks() -> None:
    new = one(body=EVENTS[:100])
    lines = told(one(), new)
    assert lines[1].startswith("response.events[1]: removed response.completed {")
    assert lines[2].startswith('response.events[1]: added cut event "event: respo')


def test_headers_status_and_end_are_told() -> None:
    old = one(headers=(("content-type", "a/b"), ("x-kind", "one"), ("date", "yesterday")))
    new = one(status=500, headers=(("content-type", "a/b"), ("via", "z"), ("date", "today")))
    assert told(old, new)[1:] == [
        "response.status: 200 -> 500",
        "response.headers.x-kind: removed one",
        "response.headers.via: added z",
    ]
    assert 'response.headers.date: "yesterday" -> "today"' in told(old, new, exact=True)
    assert told(one(), changed(end="reset", complete=False))[1:] == [
        "response.stream.end: eof -> reset",
        "response.stream.complete: True -> False",
    ]


def test_borders_of_chunks_are_told_and_times_when_asked_for() -> None:
    assert told(one(), changed(ends=(87, 176)))[1:] == ["response.stream.ends[0]: 88 -> 87"]
    assert told(one(), changed(ends=(176,), at_s=(0.1,)))[1:] == ["response.chunks: 2 -> 1"]
    later = changed(at_s=(0.1, 0.3))
    assert told(one(), later) == []
    assert told(one(), later, times=True)[1:] == ["response.stream.at[1]: 0.2 s -> 0.3 s"]


def test_frames_are_compared_like_events() -> None:
    def talk(*pieces: bytes) -> Cassette:
        return changed(
            frames=tuple(Frame(at_s=0.1, direction="in", kind="text", data=d) for d in pieces)
        )

    old, new = talk(b'{"type":"a","n":1}'), talk(b'{"type":"a","n":2}', b"\xff")
    assert told(old, new)[1:] == [
        "response.frames[0] (in a).n: 1 -> 2",
        'response.frames[1]: added in text "\\\\xff"',
    ]


def test_an_interaction_that_is_new_does_not_shift_the_others() -> None:
    def asked(number: int, text: bytes) -> Interaction:
        return interaction(number, request_body=b'{"text":"%s"}' % text)

    old = cassette(asked(1, b"one"), asked(2, b"three"))
    new = cassette(asked(1, b"one"), asked(2, b"two"), asked(3, b"three"))
    assert told(old, new) == [
        "client 2 POST /v1/responses",
        "interaction: added an interaction, answered with 200",
    ]
    assert told(new, old)[1] == "interaction: removed an interaction, answered with 200"


def test_tracks_are_compared_each_by_itself() -> None:
    up, down = interaction(1, track="upstream"), interaction(2)
    other_up, other_down = interaction(2, track="upstream"), interaction(1)
    assert told(cassette(up, down), cassette(other_up, other_down)) == []


def test_what_a_cassette_says_of_itself_is_compared() -> None:
    new = attrs.evolve(one(), about=attrs.evolve(one().about, origin="live", date="2030-01-01"))
    assert told(one(), new) == ["", "metadata.origin: simulator -> live"]
    assert "metadata.date: 2026-11-28 -> 2030-01-01" in told(one(), new, exact=True)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(diff, [str(each) for each in arguments])


def test_the_command_says_what_differs_without_colours_when_piped(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    file.write(old, one())
    file.write(new, one(status=500))
    result = run(old, new)
    assert result.exit_code == 1
    assert result.output == (
        "client 1 POST /v1/responses\n  response.status: 200 -> 500\n1 difference\n"
    )
    assert (run(old, old).exit_code, run(old, old).output) == (0, "the same\n")


def test_what_a_stranger_wrote_does_nothing_to_the_terminal(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    told_by_it = attrs.evolve(interaction().response, reason="\x1b[31m\nthe same")
    file.write(old, cassette(attrs.evolve(interaction(), response=told_by_it)))
    file.write(new, one())
    assert run(old, new).output.splitlines()[1:] == [
        r"  response.reason: \x1b[31m\nthe same -> OK",
        "1 difference",
    ]


def test_folders_are_compared_file_by_file(tmp_path: Path) -> None:
    for folder, name, status in [
        ("old", "same.yaml", 200),
        ("new", "same.yaml", 200),
        ("old", "gone.yaml", 200),
        ("new", "come.yaml", 200),
        ("old", "other.yaml", 200),
        ("new", "other.yaml", 404),
    ]:
        (tmp_path / folder).mkdir(exist_ok=True)
        file.write(tmp_path / folder / name, one(status=status))
    result = run(tmp_path / "old", tmp_path / "new")
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "added: come.yaml",
        "removed: gone.yaml",
        "other.yaml",
        "client 1 POST /v1/responses",
        "  response.status: 200 -> 404",
        "3 differences",
    ]


@pytest.mark.parametrize("other", ["none.yaml", "folder", "broken.yaml", "deep.yaml"])
def test_what_cannot_be_compared_is_a_mistake_of_the_caller(tmp_path: Path, other: str) -> None:
    file.write(tmp_path / "one.yaml", one())
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.yaml").write_text("[]")
    file.write(tmp_path / "deep.yaml", asking(b"[" * 900 + b"]" * 900))
    assert run(tmp_path / "one.yaml", tmp_path / other).exit_code == 2
