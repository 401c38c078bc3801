"""Cassettes on the disk: whole or not at all, large bodies beside them, and vcrpy over both."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

import attrs
import httpx
import pytest
import vcr

from harness.cassettes import file
from harness.cassettes.beside import INSIDE_BYTES
from harness.cassettes.document import dump
from harness.cassettes.errors import CassetteError
from harness.cassettes.model import Frame
from harness.cassettes.vcr_files import CassetteFiles
from tests.fakes.cassettes import cassette, interaction

if TYPE_CHECKING:
    from pathlib import Path

    from harness.cassettes.model import Cassette

LARGE = b"data: " + b"x" * INSIDE_BYTES + b"\n\ndata: [DONE]\n\n"
BODIES = [
    b"",
    b"data: [DONE]\n\n",
    b"a\r\nb\r\n",
    "\ufeffmark, next\x85line, \ttab and spaces   \n \U0001f600".encode(),
    b'{"half": "\\ud83d"}',
    b"\xff\x00\x80",
]


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def played(path: Path, *, recorder: vcr.VCR | None = None) -> httpx.Response:
    recorder = recorder or vcr.VCR()
    with (
        recorder.use_cassette(str(path), record_mode="none"),
        httpx.Client(trust_env=False) as client,
    ):
        return client.post("http://relay/v1/responses", json={})


def test_a_cassette_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    file.write(path, cassette())
    assert file.read(path) == cassette()
    assert path.read_bytes() == dump(cassette())
    assert names_in(tmp_path) == ["one.yaml"]


@pytest.mark.skipif(os.name != "posix", reason="only there files have modes")
def test_a_cassette_and_what_lies_beside_it_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    file.write(path, cassette(interaction(body=LARGE)))
    (beside,) = (tmp_path / "one.yaml.bodies").iterdir()
    assert (mode_of(path), mode_of(beside), mode_of(beside.parent)) == (0o600, 0o600, 0o700)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    file.write(path, cassette())
    with pytest.raises(ValueError, match="surrogate"):
        file.write(path, cassette(interaction(headers=(("x", "\ud800"),))))
    (tmp_path / "taken.yaml").mkdir()
    with pytest.raises(OSError, match="taken"):
        file.write(tmp_path / "taken.yaml", cassette())
    assert file.read(path) == cassette()
    assert names_in(tmp_path) == ["one.yaml", "taken.yaml"]


def test_large_bodies_lie_beside_the_cassette(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    whole = cassette(interaction(body=LARGE, request_body=b"\xff" + LARGE), interaction(2))
    file.write(path, whole)
    assert file.read(path) == whole
    assert len(path.read_bytes()) < 3000
    asked = hashlib.sha256(b"\xff" + LARGE).hexdigest()[:16]
    told = hashlib.sha256(LARGE).hexdigest()[:16]
    assert names_in(tmp_path) == [
        "one.yaml",
        "one.yaml.bodies",
        f"one.yaml.bodies/0001-request-{asked}.bin",
        f"one.yaml.bodies/0001-response-{told}.bin",
    ]


def test_bodies_that_nobody_names_any_more_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    file.write(path, cassette(interaction(body=LARGE)))
    before = names_in(tmp_path)
    file.write(path, cassette(interaction(body=b"." + LARGE)))
    after = names_in(tmp_path)
    assert len(after) == len(before) == 3
    assert before != after
    file.write(path, cassette())
    assert names_in(tmp_path) == ["one.yaml"]


def test_a_body_that_was_half_written_by_somebody_who_was_killed_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    file.write(path, cassette(interaction(body=LARGE)))
    before = names_in(tmp_path)
    (tmp_path / "one.yaml.bodies" / ".0001-response-0.bin.x.tmp").write_bytes(b"data")
    file.write(path, cassette(interaction(body=LARGE)))
    assert names_in(tmp_path) == before


@pytest.mark.skipif(os.name != "posix", reason="only there a name may be so")
def test_under_a_name_that_not_every_system_takes_large_bodies_stay_inside(tmp_path: Path) -> None:
    path = tmp_path / "a:b.yaml"
    whole = cassette(interaction(body=LARGE))
    file.write(path, whole)
    assert file.read(path) == whole
    assert names_in(tmp_path) == ["a:b.yaml"]


def test_a_body_beside_the_cassette_is_the_one_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    file.write(path, cassette(interaction(body=LARGE)))
    (beside,) = (tmp_path / "one.yaml.bodies").iterdir()
    where = "interactions[0].response.codexrelay.body_file.path"
    beside.write_bytes(LARGE[:-1] + b".")
    assert f"{path}: {where}: the file is not the one that was written" in told_by(path)
    beside.write_bytes(b"short")
    assert f"{path}: {where}: the file is 5 bytes long, not {len(LARGE)}" in told_by(path)
    beside.unlink()
    assert f"{path}: {where}: there is no such file" in told_by(path)


@pytest.mark.parametrize(
    "named",
    [
        "../one.bin",
        "/etc/passwd",
        "x.bodies/../../one.bin",
        "x.bodies\\..\\one.bin",
        "one.bin",
        "C:x.bodies/one.bin",
        "..bodies/../one.bin",
        "x.bodies/a/b.bin",
    ],
)
def test_a_cassette_names_no_file_outside_its_own_folder(tmp_path: Path, named: str) -> None:
    path = tmp_path / "in" / "one.yaml"
    path.parent.mkdir()
    file.write(path, cassette(interaction(body=LARGE)))
    (tmp_path / "one.bin").write_bytes(LARGE)
    text = path.read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if " path: " in line)
    path.write_text(text.replace(line, f"        path: '{named}'"), encoding="utf-8")
    assert "is no path to a body beside the cassette" in told_by(path)


@pytest.mark.skipif(os.name != "posix", reason="links need a right elsewhere")
def test_a_link_beside_a_cassette_leads_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "in" / "one.yaml"
    path.parent.mkdir()
    file.write(path, cassette(interaction(body=LARGE)))
    (beside,) = (tmp_path / "in" / "one.yaml.bodies").iterdir()
    beside.rename(tmp_path / "out.bin")
    beside.symlink_to(tmp_path / "out.bin")
    assert "leads out of the cassette's folder" in told_by(path)


def test_a_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    assert told_by(tmp_path / "none.yaml").endswith("cannot be read (No such file or directory)")


def told_by(path: Path) -> str:
    with pytest.raises(CassetteError) as caught:
        file.read(path)
    assert caught.value.path == path
    return str(caught.value)


@pytest.mark.parametrize("body", BODIES, ids=ascii)
def test_plain_vcrpy_plays_the_same_bytes(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "one.yaml"
    file.write(path, cassette(interaction(body=body)))
    answer = played(path)
    assert answer.content == body
    assert (answer.status_code, answer.reason_phrase) == (200, "OK")
    assert answer.headers["content-type"] == "text/event-stream"


@pytest.mark.parametrize("persister", [None, CassetteFiles], ids=["plain", "with our files"])
def test_a_load_and_a_save_by_vcrpy_keep_everything(tmp_path: Path, persister: object) -> None:
    path = tmp_path / "one.yaml"
    whole = cassette(
        *(interaction(number, body=body) for number, body in enumerate(BODIES, start=1)),
        with_frames(9),
    )
    file.write(path, whole)
    saved_by_vcrpy(path, persister)
    assert path.read_bytes() != dump(whole)
    assert file.read(path) == whole


def test_vcrpy_plays_and_keeps_bodies_beside_the_cassette(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    whole = cassette(interaction(body=LARGE, request_body=LARGE))
    file.write(path, whole)
    recorder = vcr.VCR()
    recorder.register_persister(CassetteFiles)
    assert played(path, recorder=recorder).content == LARGE
    assert played(path).content == b""  # vcrpy alone does not know of them
    saved_by_vcrpy(path, CassetteFiles)
    assert len(path.read_bytes()) < 3000
    assert file.read(path) == whole


def test_vcrpy_is_told_of_a_body_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    file.write(path, cassette(interaction(body=LARGE)))
    next((tmp_path / "one.yaml.bodies").iterdir()).unlink()
    with pytest.raises(ValueError, match="a body beside it: there is no such file"):
        CassetteFiles.load_cassette(path, vcr.serializers.yamlserializer)


def with_frames(number: int) -> Cassette:
    one = interaction(number, body=b"", status=101)
    frames = (
        Frame(at_s=0.1, direction="out", kind="text", data=b'{"type":"response.create"}'),
        Frame(at_s=0.2, direction="in", kind="bin", data=b"\xff\x00"),
    )
    stream = attrs.evolve(one.response.stream, frames=frames)
    return attrs.evolve(one, response=attrs.evolve(one.response, stream=stream))


def saved_by_vcrpy(path: Path, persister: object) -> None:
    """Let vcrpy load a file and save it, as it does when it records one more request."""
    recorder = vcr.VCR()
    if persister is not None:
        recorder.register_persister(persister)
    with recorder.use_cassette(str(path), record_mode="all") as loaded:
        loaded.dirty = True
