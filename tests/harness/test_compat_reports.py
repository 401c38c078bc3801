"""What is written of a run: the transcript of a cell, the JUnit file, the page."""

from __future__ import annotations

import html.parser
from xml.etree import ElementTree as ET

import attrs
import pytest

from harness.compat.cell import Result
from harness.compat.junit import junit
from harness.compat.page import Facts, page
from harness.compat.transcript import Transcript, transcript_of
from harness.simulator import Seen

VOID = {"meta", "br", "link", "img"}
NASTY = "<script>alert('oh')</script> & \x1b[31mred\x1b[0m \x00 ]]>"
FACTS = Facts(date="2026-11-28", version="1.2.3", sealed="sealed")


def seen(body: object, *, status: int = 200, path: str = "/codex/responses") -> Seen:
    return Seen(
        method="POST",
        path=path,
        headers=[("authorization", "Bearer secret-bearer")],
        body=body,
        arrived_at_s=5.0,
        account="one",
        status=status,
        finished=True,
    )


def conversation(*requests: Seen, stdout: str = "", prompt: str = "please") -> Transcript:
    return transcript_of(
        prompt=prompt,
        arguments=("exec", prompt),
        seen=requests,
        printed=(stdout, ""),
        relay_log=("a line",),
        folder="/tmp/place",
        secrets=("the-key",),
    )


ASKED = seen(
    {
        "model": "gpt-5.5",
        "tools": [{"type": "function", "name": "bash", "parameters": {"required": ["command"]}}],
        "input": [{"role": "user", "content": "Run the shell command 'echo hi' now."}],
    }
)
GOOD = Result(
    variant="pi-chat",
    scenario="tool",
    seconds=2.04,
    problems=(),
    transcript=conversation(ASKED, stdout=NASTY),
)
BAD = Result(
    variant="pi-chat",
    scenario="eof",
    seconds=3.0,
    problems=(NASTY, "no text"),
    traces=(f"stderr: {NASTY}",),
)


def test_a_transcript_tells_what_the_backend_saw_and_answered() -> None:
    (exchange,) = conversation(ASKED).exchanges
    assert exchange.at_s == 0.0
    assert exchange.heading == "POST /codex/responses 200, account one"
    assert exchange.asked[-1] == "user: Run the shell command 'echo hi' now."
    assert exchange.answered[-1] == 'call bash: {"command":"echo hi"}'


def test_a_transcript_shows_no_secret_and_no_place() -> None:
    refreshed = seen({"refresh_token": "rt_secret"}, path="/oauth/token")
    told = repr(conversation(ASKED, refreshed, stdout="the-key in /tmp/place/home"))
    assert "secret" not in told.replace("secrets", "")
    assert "the-key" not in told
    assert "(not shown) in ~/home" in told


def test_a_transcript_is_bounded_whatever_was_said() -> None:
    huge = "x" * 20_000
    items = [{"role": "user", "content": huge}] * 20
    told = repr(conversation(*[seen({"input": items})] * 100, stdout=huge, prompt=huge))
    assert len(told) < 200_000


def test_an_answer_that_was_no_success_is_not_made_up() -> None:
    (exchange,) = conversation(seen(ASKED.body, status=503)).exchanges
    assert exchange.answered == ()


def test_the_junit_file_counts_and_tells_what_failed() -> None:
    root = ET.fromstring(junit([GOOD, BAD], {"droid": "npm is not installed"}))
    assert (root.tag, root.get("tests"), root.get("failures")) == ("testsuites", "3", "1")
    row, left_out = root
    assert (row.get("name"), row.get("tests"), row.get("failures")) == ("pi-chat", "2", "1")
    good, bad = row
    assert [child.tag for child in good] == []
    assert (good.get("name"), good.get("classname"), good.get("time")) == (
        "tool",
        "compat.pi-chat",
        "2.040",
    )
    failure = bad.find("failure")
    assert failure is not None
    assert "<script>" in (failure.get("message") or "")
    assert "no text" in (failure.text or "")
    assert "stderr: " in (failure.text or "")
    skipped = left_out.find("testcase/skipped")
    assert skipped is not None
    assert skipped.get("message") == "npm is not installed"


def test_the_junit_file_holds_no_character_that_xml_has_not() -> None:
    assert not {0x00, 0x1B} & set(junit([BAD], {}))


class Reader(html.parser.HTMLParser):
    """Checks that tags are closed in order; keeps what is linked, named and loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []
        self.names: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        given = dict(attrs)
        assert "src" not in given
        self.links += [given["href"] or ""] if "href" in given else []
        self.names += [given["id"] or ""] if "id" in given else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_is_well_formed_and_each_cell_leads_to_its_transcript() -> None:
    reader = read(page([GOOD, BAD], {"droid": "no npm"}, FACTS))
    cells = [link for link in reader.links if link != "#top"]
    assert cells == ["#pi-chat--tool", "#pi-chat--eof"]
    assert {link.removeprefix("#") for link in reader.links} <= set(reader.names)
    assert "1 of 2 cells" in reader.text
    assert "droid was left out: no npm" in reader.text


def test_the_page_names_the_relays_that_were_measured() -> None:
    text = page([GOOD], {}, attrs.evolve(FACTS, relay="ours, theirs"))
    assert "Agents through ours, theirs" in read(text).text


def test_the_page_says_everything_as_text_and_loads_nothing() -> None:
    text = page([GOOD, attrs.evolve(BAD, variant=NASTY)], {NASTY: NASTY}, FACTS)
    reader = read(text)
    assert "script" not in reader.seen
    assert "<script>alert('oh')</script> & red" in reader.text
    assert not {"\x00", "\x1b"} & set(text)
    assert "http" not in text
    assert "url(" not in text


@pytest.mark.parametrize("column", ["tool", "eof"])
def test_a_cell_that_was_not_run_is_a_dash(column: str) -> None:
    other = attrs.evolve(GOOD, variant="codex", scenario="patch")
    text = page([attrs.evolve(GOOD, scenario=column), other], {}, FACTS)
    assert text.count("<td>-</td>") == 2
