"""`codexrelay doctor` and backends of other kinds, which are servers on loopback here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

from tests.cli.test_doctor import NOWHERE, Patient
from tests.fakes.scripted_server import Caller, always_answering, serving

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.protocol.raw import JsonObject

KEY: Final = "sk-of-my-box-0123456789"
LIST: Final = '{"data": [{"id": "qwen3"}, {"id": "phi"}]}'


def answer(status: int, body: str = LIST) -> bytes:
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    patient = Patient(folder=tmp_path)
    patient.add()
    return patient


def with_box(patient: Patient, url: str, *, key: str | None = KEY, **more: object) -> None:
    """Configure a backend called `my-box`."""
    block: JsonObject = {"type": "openai", "api_base_url": url, **more}  # type: ignore[dict-item]
    if key is not None:
        file = patient.folder / "key"
        file.write_text(key)
        file.chmod(0o600)
        block["api_key_file"] = str(file)
    patient.config = {"backends": {"my_box": block}}


async def test_a_backend_that_answers_is_told_with_its_models(patient: Patient) -> None:
    asked: list[bytes] = []

    async def script(caller: Caller) -> None:
        asked.append(await caller.head())
        await caller.send(answer(200))

    async with serving(script) as server:
        with_box(patient, f"{server.url}/v1", models=["phi"])
        found = await patient.ask("my-box")
    assert found == [("ok", f"{server.url}/v1 answers (200); models: qwen3, phi", None)]
    assert asked[0].startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert f"Bearer {KEY}".encode() in asked[0]
    assert KEY not in patient.said


@pytest.mark.parametrize(
    ("status", "body", "key", "level", "what", "mend"),
    [
        (
            401,
            "{}",
            KEY,
            "broken",
            "does not take its key (401)",
            "api_key_file ({key}): the right",
        ),
        (401, "{}", None, "broken", "wants a key (401)", "backends.my_box.api_key_env or"),
        (307, "", KEY, "broken", "redirects (307)", "api_base_url: where it leads to"),
        (503, "", KEY, "warn", "in trouble", "see its log"),
        (404, "{}", KEY, "warn", "has no list of models", "api_base_url: with its /v1, or"),
        (200, "<p>", KEY, "warn", "has no list of models", "backends.my_box.models: its models"),
        (200, LIST, KEY, "warn", "no model called llama; it has qwen3, phi", "names that it has"),
    ],
    ids=["key", "no key", "redirect", "trouble", "path", "page", "model"],
)
async def test_what_is_wrong_with_a_backend_is_told_with_the_setting_that_mends_it(
    status: int, body: str, key: str | None, level: str, what: str, mend: str, patient: Patient
) -> None:
    async with serving(always_answering(answer(status, body))) as server:
        with_box(patient, f"{server.url}/v1", key=key, models=["llama"])
        [found] = await patient.ask("my-box")
    assert found[0] == level
    assert what in found[1]
    assert found[2] is not None
    assert mend.format(key=patient.folder / "key") in found[2]


async def test_a_backend_where_nobody_listens_is_told_with_its_url(patient: Patient) -> None:
    with_box(patient, f"{NOWHERE}/v1")
    [(level, what, mend)] = await patient.ask("my-box")
    assert level == "broken"
    assert what.startswith(f"backend my-box cannot be reached at {NOWHERE}/v1: ")
    assert mend == "does it run, and is backends.my_box.api_base_url right?"


def test_a_key_that_cannot_be_used_is_told_without_asking_anybody(patient: Patient) -> None:
    with_box(patient, f"{NOWHERE}/v1", key="two words")
    [(level, what, mend)] = patient.about("my-box")
    assert level == "broken"
    assert what.startswith(f"backends.my_box.api_key_file: {patient.folder / 'key'} holds a blank")
    assert mend == "write the key into it, and nothing else; no restart is needed"
    assert "two words" not in patient.said


@pytest.mark.skipif(os.name == "nt", reason="modes mean nothing there")
def test_a_file_with_a_key_that_others_can_read_is_told(patient: Patient) -> None:
    with_box(patient, f"{NOWHERE}/v1")
    (patient.folder / "key").chmod(0o644)
    path = patient.folder / "key"
    assert patient.about("my-box") == [
        ("warn", f"{path}, with its API key, can be read by others", f"chmod 600 {path}")
    ]
