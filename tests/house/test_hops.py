"""The hop table of ARCHITECTURE.md is true: a request really passes these functions in order."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

import codexrelay
from tests.fakes.relay import ask, relaying

if TYPE_CHECKING:
    from types import CodeType, FrameType

ROOT = Path(__file__).parents[2]
#: What the tests run, which is not always the checkout they lie in, nor by the same path.
SOURCES = Path(codexrelay.__file__).resolve().parents[1]
ROW = re.compile(r"^\| \d+ \| `(?P<file>[^`]+)` \| `(?P<function>[^`]+)` \|", re.MULTILINE)


@attrs.frozen
class Hop:
    file: str
    function: str


def hops() -> list[Hop]:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    return [Hop(match["file"], match["function"]) for match in ROW.finditer(text)]


def test_the_table_has_nine_hops_in_nine_files() -> None:
    found = hops()
    assert len(found) == 9
    assert len({hop.file for hop in found}) == 9


async def test_a_request_takes_the_hops_in_order(tmp_path: Path) -> None:
    wanted = {(SOURCES / hop.file.removeprefix("src/"), hop.function): hop for hop in hops()}
    functions = {hop.function for hop in wanted.values()}
    entered: list[Hop] = []

    def watch(frame: FrameType, event: str, _: object) -> None:
        code: CodeType = frame.f_code
        if event == "call" and code.co_qualname in functions:
            hop = wanted.get((Path(code.co_filename).resolve(), code.co_qualname))
            if hop is not None and hop not in entered:
                entered.append(hop)

    async with relaying(tmp_path) as relay:
        before = sys.getprofile()
        sys.setprofile(watch)
        try:
            answer = await relay.post("/v1/responses", ask())
        finally:
            sys.setprofile(before)
    assert answer.status_code == 200
    assert entered == hops()
