"""Plain vcrpy over cassettes whose large bodies lie beside them.

    recorder = vcr.VCR(record_mode="none")
    recorder.register_persister(CassetteFiles)

Without it vcrpy plays all the rest, and answers those large bodies with nothing. vcrpy is needed
by whoever uses this, and by nothing else here.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from vcr.persisters.filesystem import (  # type: ignore[import-untyped]
    CassetteDecodeError,
    CassetteNotFoundError,
)
from vcr.serialize import (  # type: ignore[import-untyped]
    deserialize,
    serialize,
)

from codexrelay.accounts.files import make_folder
from harness.cassettes import beside
from harness.cassettes.file import write_bytes

if TYPE_CHECKING:
    from types import ModuleType

_Mapping: TypeAlias = dict[str, Any]
_NOTE: Final = "body_file"
_REQUEST_NOTE: Final = "request_file"


class CassetteFiles:
    """How vcrpy loads and saves its files: in UTF-8, whole or not at all, with mode 0600."""

    @staticmethod
    def load_cassette(cassette_path: str | Path, serializer: ModuleType) -> object:
        """Return what vcrpy makes of the file, with the bodies that lie beside it."""
        path = Path(cassette_path)
        try:
            text = path.read_bytes().decode()
        except (FileNotFoundError, IsADirectoryError):
            raise CassetteNotFoundError from None
        except UnicodeDecodeError as error:
            raise CassetteDecodeError(f"{path} is no UTF-8 text") from error
        if not text.strip():
            raise CassetteNotFoundError  # vcrpy takes an empty file for none
        loaded = deserialize(text, serializer)
        requests, responses = loaded[0], loaded[1]
        for request, response in zip(requests, responses, strict=True):
            ours = _ours(response)
            if (body := _beside(path, ours.get(_NOTE))) is not None:
                response["body"] = {"string": body}
            if (body := _beside(path, ours.get(_REQUEST_NOTE))) is not None:
                request.body = body
        return loaded

    @staticmethod
    def save_cassette(
        cassette_path: str | Path, cassette_dict: _Mapping, serializer: ModuleType
    ) -> None:
        """Write what vcrpy holds; bodies that lie beside the file already stay there."""
        path = Path(cassette_path)
        requests, responses = [], []
        for request, response in zip(
            cassette_dict["requests"], cassette_dict["responses"], strict=True
        ):
            ours = dict(_ours(response))
            body = (response.get("body") or {}).get("string")
            if (left := _left_beside(ours, _NOTE, body)) is not None:
                response = {**response, "body": {"string": left}}
            if (left := _left_beside(ours, _REQUEST_NOTE, request.body)) is not None:
                request = type(request)(request.method, request.uri, left, request.headers)
            if "codexrelay" in response:
                response = {**response, "codexrelay": ours}
            requests.append(request)
            responses.append(response)
        saved = {**cassette_dict, "requests": requests, "responses": responses}
        make_folder(path.parent)
        write_bytes(path, serialize(saved, serializer).encode())


def _ours(response: _Mapping) -> _Mapping:
    ours = response.get("codexrelay")
    return ours if isinstance(ours, dict) else {}


def _beside(path: Path, note: object) -> bytes | None:
    """Return the body that a note tells of; None: there is no note.

    Raises:
        CassetteDecodeError: it cannot be had.
    """
    if not isinstance(note, dict):
        return None
    try:
        return beside.read(
            path.parent, str(note["path"]), size_bytes=note["size"], sha256=note["sha256"]
        )
    except (KeyError, beside.BesideError) as error:
        raise CassetteDecodeError(f"{path}: a body beside it: {error}") from error


def _left_beside(ours: _Mapping, key: str, body: object) -> bytes | None:
    """Return what stands in the file for a body that lies beside it; None: it does not (any more).

    A note that tells of another body than this one is taken out.
    """
    note = ours.get(key)
    if not isinstance(note, dict):
        return None
    plain = body.encode() if isinstance(body, str) else body
    if isinstance(plain, bytes) and hashlib.sha256(plain).hexdigest() == note.get("sha256"):
        return b""
    del ours[key]
    return None
