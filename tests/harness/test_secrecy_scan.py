from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest
import yaml
import zstandard
from click.testing import CliRunner, Result

from harness.secrecy.command import scan
from harness.secrecy.scanning import scan_bytes, scan_file
from harness.secrecy.secrets import Secrets

ROOT = Path(__file__).parents[2]
KEY = "sk-proj-Ab3dEf6hIj9lMn2pQr5t"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(scan, ["--no-person", *map(str, arguments)])


def test_a_finding_names_file_line_and_kind_and_never_the_secret(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text(f"one\ntwo {KEY} three\n")
    result = run(tmp_path)
    assert result.exit_code == 1
    assert result.output == f"{tmp_path / 'notes.txt'}: line 2: key\n"


def test_what_is_clean_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see, and sk-proj-xxxxxxxxxxxxxxxxxxx3\n")
    result = run(tmp_path)
    assert (result.exit_code, result.output) == (0, "")


def test_the_hook_stands_in_the_help_as_it_is_written() -> None:
    told = CliRunner().invoke(scan, ["--help"]).output
    assert "-z |\n      xargs -0 -r python -m harness scan\n" in told
    assert "\\b" not in told


def test_a_path_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    assert run(tmp_path / "missing").exit_code == 2


def test_a_value_that_is_allowed_is_not_told(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed.sha256"
    allowed.write_text(f"{hashlib.sha256(KEY.encode()).hexdigest()}  of a fixture\n")
    (tmp_path / "notes.txt").write_text(KEY)
    assert run(tmp_path, "--allow", allowed).exit_code == 0


def test_exact_values_come_from_a_file_or_a_store(tmp_path: Path) -> None:
    (tmp_path / "values").write_text("hunter-two-hunter\n")
    store = tmp_path / "store"
    store.mkdir()
    (store / "a.json").write_text(json.dumps({"access_token": "plain-words-token"}))
    looked_at = tmp_path / "notes.md"
    looked_at.write_text("a hunter-two-hunter\nb plain-words-token\n")
    result = run(looked_at, "--value-file", tmp_path / "values", "--store", store)
    assert result.output.split("\n") == [
        f"{looked_at}: line 1: value",
        f"{looked_at}: line 2: token",
        "",
    ]
    assert run(looked_at).exit_code == 0


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_what_is_compressed_is_looked_into(pack: object) -> None:
    packed = pack(f"text\n{KEY}\n".encode())  # type: ignore[operator]
    assert [(one.place, one.kind) for one in scan_file("a.txt.gz", packed, Secrets())] == [
        ("line 2", "key")
    ]
    scan_file("a.gz", packed[:-3], Secrets())  # cut off: no error


def test_what_yaml_holds_is_looked_at_as_it_reads() -> None:
    broken = KEY[:12] + "\\\n    " + KEY[12:]  # over two lines of YAML
    data = f'interactions:\n- uri: "to {broken}"\n'.encode()
    places = [one.place for one in scan_file("a.yaml", data, Secrets())]
    assert places == ["interactions[0].uri, byte 3"]
    assert scan_file("a.yaml", b"a: [", Secrets()) == ()  # no YAML: looked at as it is


def test_what_yaml_holds_as_bytes_is_found_on_its_line() -> None:
    body = b"\x00\xff" * 40 + f"binary {KEY}".encode()
    data = yaml.safe_dump({"a": {"string": body}}).encode()
    assert [one.kind for one in scan_bytes(data, Secrets())] == ["key"]


def test_a_binary_file_is_looked_at() -> None:
    assert scan_bytes(b"\x00\x01\xfe" + KEY.encode() + b"\x00", Secrets())


def test_this_repository_holds_none() -> None:
    places = [ROOT / name for name in ("README.md", "src", "harness", "config.example.yaml")]
    result = run(*places)
    assert (result.exit_code, result.output) == (0, "")


def test_caches_and_version_control_are_left_out(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text(KEY)
    assert run(tmp_path).exit_code == 0
