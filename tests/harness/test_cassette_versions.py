"""Old files stay readable: plain vcrpy's, and what each version of the format looked like."""

from __future__ import annotations

import base64
import gzip
import zlib
from pathlib import Path

import pytest
import yaml
import zstandard

from harness.cassettes import file
from harness.cassettes.document import dump, parse
from harness.cassettes.errors import CassetteError
from harness.cassettes.model import FORMAT
from harness.cassettes.versions import CONVERTERS
from tests.fakes.cassettes import cassette
from tests.fakes.recordings import vcrpy_files

OLD = Path(__file__).parent / "cassettes"
JSON = b'{"object":"chat.completion","choices":[]}'


def plain(
    body: object,
    *,
    coding: str | None = None,
    uri: str = "https://backend.example/v1/responses",
    request: dict[str, object] | None = None,
) -> bytes:
    """Return a file as vcrpy writes it."""
    headers = {"Content-Type": ["application/json"], "Content-Length": ["7"]}
    headers |= {"Content-Encoding": [coding]} if coding else {}
    asked = {"method": "POST", "uri": uri, "headers": {"Accept": ["*/*"]}, "body": None}
    told = {"status": {"code": 200, "message": "OK"}, "headers": headers, "body": {"string": body}}
    entry = {"request": asked | (request or {}), "response": told}
    return yaml.safe_dump({"version": 1, "interactions": [entry]}).encode()


def test_there_is_a_converter_from_every_version_to_the_next() -> None:
    assert sorted(CONVERTERS) == list(range(FORMAT))


def test_a_plain_file_of_vcrpy_becomes_a_cassette() -> None:
    old = file.read(OLD / "format-0-vcrpy.yaml")
    assert old.about.format == FORMAT
    assert (old.about.origin, old.about.complete) == ("authored", True)
    whole, packed, cut = old.interactions
    assert [one.number for one in old.interactions] == [1, 2, 3]
    assert {one.track for one in old.interactions} == {"upstream"}
    assert whole.response.stream.at_s == (0.0,)
    assert whole.response.stream.ends == (len(whole.response.body),)
    assert "Grüße \U0001f44b".encode() in whole.response.body
    assert [one.response.stream.complete for one in old.interactions] == [True, True, False]
    assert {one.response.stream.end for one in old.interactions} == {"eof"}
    assert (packed.response.body, packed.response.coding) == (JSON, "gzip")
    headers = dict(packed.response.headers)
    assert "content-encoding" not in headers
    assert headers["content-length"] == str(len(JSON))
    assert [value for name, value in packed.response.headers if name == "set-cookie"] == [
        "a=1",
        "b=2",
    ]
    assert len(cut.response.body) == 150


def test_a_file_of_format_1_says_what_it_said() -> None:
    old = file.read(OLD / "format-1.yaml")
    assert (old.about.client_version, old.about.began_unix_s) == ("0.169.0", 1795824000.5)
    assert (old.about.origin, old.about.redacted, old.about.complete) == (
        "authored",
        {"token": 2},
        False,
    )
    first, second, third = old.interactions
    assert (first.request.coding, first.response.coding) == ("zstd", "gzip")
    assert first.response.headers == (("set-cookie", "a=1"), ("via", "x"), ("set-cookie", "b=2"))
    assert (first.response.stream.at_s, first.response.stream.ends) == ((0.1, 1.25), (35, 72))
    assert (first.response.head_at_s, first.response.stream.complete) == (0.05, True)
    assert (second.track, second.caused_by, second.began_at_s) == ("upstream", 1, 0.01)
    assert (second.response.status, second.response.stream.end) == (None, "reset")
    assert second.request.body == b'{"input":"a body beside the cassette"}'
    assert [(one.direction, one.kind, one.code) for one in third.response.stream.frames] == [
        ("out", "text", None),
        ("in", "bin", None),
        ("in", "close", 1000),
    ]
    assert third.response.stream.frames[1].data == b"\xff\x00"


def test_a_converted_file_is_written_in_the_new_format() -> None:
    old = file.read(OLD / "format-0-vcrpy.yaml")
    assert parse(dump(old), folder=None) == old


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(JSON)),
        ("deflate", zlib.compress(JSON)),
        ("zstd", zstandard.compress(JSON)),
        ("gzip", JSON.decode()),  # older recorders kept the name of what they had taken off
        ("br", JSON.decode()),
    ],
    ids=["gzip", "deflate", "zstd", "gzip by name only", "br by name only"],
)
def test_a_body_is_kept_without_its_coding(coding: str, packed: object) -> None:
    (one,) = parse(plain(packed, coding=coding), folder=None).interactions
    assert (one.response.body, one.response.coding) == (JSON, coding)
    assert dict(one.response.headers) == {
        "content-type": "application/json",
        "content-length": str(len(JSON)),
    }
    assert one.response.stream.complete


def test_a_body_that_nobody_here_can_decode_stays_as_it_is() -> None:
    packed = base64.b64decode("CweAeyJhIjoxfQM=") + b"\xff"
    (one,) = parse(plain(packed, coding="br"), folder=None).interactions
    assert (one.response.body, one.response.coding) == (packed, None)
    assert ("content-encoding", "br") in one.response.headers


def test_a_compressed_request_is_kept_without_its_coding() -> None:
    asked = {"body": zstandard.compress(JSON), "headers": {"Content-Encoding": ["zstd"]}}
    (one,) = parse(plain("{}", request=asked), folder=None).interactions
    assert (one.request.body, one.request.coding, one.request.headers) == (JSON, "zstd", ())


@pytest.mark.parametrize(
    ("uri", "track"),
    [("http://relay/v1/responses", "client"), ("http://relay.example/v1", "upstream")],
)
def test_the_host_tells_the_track(uri: str, track: str) -> None:
    (one,) = parse(plain("{}", uri=uri), folder=None).interactions
    assert one.track == track


def test_an_answer_of_an_older_vcrpy_is_read_too() -> None:
    document = yaml.safe_load(plain("{}"))
    told = {"status_code": 201, "http_version": "HTTP/1.1", "headers": {"Via": "a"}}
    document["interactions"][0]["response"] = {**told, "content": "{}"}
    (one,) = parse(yaml.safe_dump(document).encode(), folder=None).interactions
    assert (one.response.status, one.response.body) == (201, b"{}")
    assert one.response.headers == (("via", "a"),)


def test_a_header_that_came_in_utf_8_is_kept_byte_for_byte() -> None:
    document = yaml.safe_load(plain("{}"))
    document["interactions"][0]["response"]["headers"] |= {"X-A": ["\u65e5"], "X-B": ["\xe4"]}
    (one,) = parse(yaml.safe_dump(document).encode(), folder=None).interactions
    headers = dict(one.response.headers)
    assert (headers["x-a"].encode("latin-1"), headers["x-b"]) == ("\u65e5".encode(), "\xe4")


def test_an_old_file_may_say_where_it_comes_from() -> None:
    data = plain("{}") + b"metadata: {codexrelay: {origin: live, relay: 0.1.0}}\n"
    about = parse(data, folder=None).about
    assert (about.origin, about.relay) == ("live", "0.1.0")


@pytest.mark.parametrize("broken", ["request: 1", "response: []", "response: {headers: 1}"])
def test_what_is_wrong_with_an_old_file_is_a_problem_too(broken: str) -> None:
    data = f"version: 1\ninteractions:\n- {{{broken}}}\n".encode()
    with pytest.raises(CassetteError):
        parse(data, folder=None)


def test_a_file_of_a_version_that_is_still_to_come_says_what_to_do() -> None:
    data = dump(cassette()).replace(b"format: 1", b"format: 7").replace(b"'0.1.0'", b"'9.0'")
    with pytest.raises(CassetteError) as caught:
        parse(data, folder=None)
    (line,) = caught.value.lines()
    assert line.startswith("metadata.codexrelay.format: it is 7 (written by codexrelay 9.0), and")
    assert line.endswith("use a newer codexrelay, or record it again with this one")


def test_the_recordings_of_others_all_become_cassettes() -> None:
    count = 0
    for path in vcrpy_files():
        converted = file.read(path)
        assert parse(dump(converted), folder=None) == converted
        count += len(converted.interactions)
    assert count > 50
