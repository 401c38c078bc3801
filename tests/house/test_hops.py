"""The hop table of ARCHITECTURE.md is true: a request really passes these functions in order."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from tests.fakes.relay import ask, relaying

if TYPE_CHECKING:
    from types import CodeType, FrameType

ROOT = Path(__file__).parents[2]
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
    wanted = {(str(ROOT / hop.file), hop.function): hop for hop in hops()}
    entered: list[Hop] = []

    def watch(frame: FrameType, event: str, _: object) -> None:
        code: CodeType = frame.f_code
        hop = wanted.get((code.co_filename, code.co_qualname))
        if event == "call" and hop is not None and hop not in entered:
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
