"""The results as one page for people: the matrix, and behind each cell what happened in it.

Nothing is loaded from anywhere, and nothing in it runs: a cell is a link to its transcript, which
the style sheet shows while it is the page's target.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harness.compat.cell import Result
    from harness.compat.transcript import Exchange, Transcript

_STYLE: Final = """
:root { color-scheme: light dark; --page: #f7f7f5; --text: #1d1f21; --faint: #6b7075;
  --line: #d9dadb; --card: #fff; --good: #d8f0dd; --good-text: #12522a; --bad: #f9d4d2;
  --bad-text: #7d1512; }
@media (prefers-color-scheme: dark) { :root { --page: #16181a; --text: #e6e7e8; --faint: #9aa0a6;
  --line: #34383c; --card: #202326; --good: #173d26; --good-text: #a9e5bd; --bad: #551d1b;
  --bad-text: #ffc9c5; } }
* { box-sizing: border-box; }
body { margin: 2rem; background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; } h3 { font-size: .95rem; }
p.facts { color: var(--faint); margin: 0 0 1.2rem; }
div.matrix { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 3px; }
th { font-weight: 600; text-align: left; white-space: nowrap; padding: .2rem .5rem; }
thead th { vertical-align: bottom; } thead span { writing-mode: vertical-rl;
  transform: rotate(180deg); padding-top: .2rem; }
tbody th { position: sticky; left: 0; background: var(--page); }
td { text-align: center; color: var(--faint); min-width: 3.1rem; }
td a { display: block; padding: .3rem .4rem; border-radius: 5px; text-decoration: none;
  font-variant-numeric: tabular-nums; }
td a:hover, td a:focus { outline: 2px solid currentColor; }
.good { background: var(--good); color: var(--good-text); }
.bad { background: var(--bad); color: var(--bad-text); font-weight: 700; }
section { display: none; margin-top: 1.5rem; padding: 1rem 1.4rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 8px; }
section:target { display: block; }
section a.close { float: right; }
pre { margin: .3rem 0; padding: .6rem .8rem; overflow-x: auto; background: var(--page);
  border-radius: 5px; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 12.5px/1.45 ui-monospace, monospace; }
ol { padding-left: 1.2rem; } li { margin: .8rem 0; }
ul.said { list-style: none; padding-left: 0; } ul.said li { margin: .15rem 0; padding: .15rem .6rem;
  border-left: 3px solid var(--line); overflow-wrap: anywhere;
  font: 12.5px/1.45 ui-monospace, monospace; }
ul.answer li { border-left-color: #4a90d9; }
.faint { color: var(--faint); }
"""
#: Colours and movements of a terminal.
_TERMINAL: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@attrs.frozen(kw_only=True)
class Facts:
    """What stands above the matrix."""

    date: str
    version: str
    #: Whether the run could have reached anything but this machine, in words.
    sealed: str
    #: What the programs went through.
    relay: str = "codexrelay"


def page(results: Sequence[Result], missing: Mapping[str, str], facts: Facts) -> str:
    """Return the whole page; `missing` are programs that were left out, with the reason."""
    rows = list(dict.fromkeys(result.variant for result in results))
    columns = list(dict.fromkeys(result.scenario for result in results))
    by_place = {(result.variant, result.scenario): result for result in results}
    good = sum(result.ok for result in results)
    seconds = sum(result.seconds for result in results)
    told = (
        f"{good} of {len(results)} cells went as they should, in {seconds:,.0f} s of running. "
        f"codexrelay {facts.version}, {facts.date}, {facts.sealed}."
    )
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(facts.relay)} compat: {good} of {len(results)}</title>",
        f"<style>{_STYLE}</style></head><body>",
        f'<h1 id="top">Agents through {_text(facts.relay)}</h1>',
        f'<p class="facts">{_text(told)}</p>',
        '<div class="matrix"><table><thead><tr><th></th>',
        *(f'<th scope="col"><span>{_text(column)}</span></th>' for column in columns),
        "</tr></thead><tbody>",
    ]
    for row in rows:
        parts.append(f'<tr><th scope="row">{_text(row)}</th>')
        parts += (_cell(by_place.get((row, column))) for column in columns)
        parts.append("</tr>")
    parts.append("</tbody></table></div>")
    parts += (
        f'<p class="faint">{_text(name)} was left out: {_text(reason)}</p>'
        for name, reason in missing.items()
    )
    for result in results:
        parts += _section(result)
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _cell(result: Result | None) -> str:
    if result is None:
        return "<td>-</td>"
    kind, told = ("good", f"{result.seconds:.1f}") if result.ok else ("bad", "failed")
    again = "*" if result.tries > 1 else ""
    title = _text("; ".join(result.problems) or "went as it should")
    link = f'<a class="{kind}" href="#{_anchor(result)}" title="{title}">{told}{again}</a>'
    return f"<td>{link}</td>"


def _section(result: Result) -> Iterator[str]:
    yield f'<section id="{_anchor(result)}"><a class="close" href="#top">close</a>'
    yield f"<h2>{_text(result.variant)}, {_text(result.scenario)}</h2>"
    told = "went as it should" if result.ok else "failed"
    tries = ", at the second try" if result.tries > 1 else ""
    yield f'<p class="faint">{told} in {result.seconds:.1f} s{tries}</p>'
    if result.problems:
        yield _list(result.problems, "said")
    if result.transcript is not None:
        yield from _transcript(result.transcript)
    if result.traces:
        yield f"<h3>Last words</h3>{_pre(chr(10).join(result.traces))}"
    yield "</section>"


def _transcript(run: Transcript) -> Iterator[str]:
    yield f"<h3>What the program was asked</h3>{_pre(run.prompt)}"
    yield f'<p class="faint">Started with:</p>{_pre(run.arguments)}'
    yield "<h3>What the backend saw and answered</h3><ol>"
    for exchange in run.exchanges:
        yield from _exchange(exchange)
    yield "</ol>"
    yield f"<h3>What the program printed</h3>{_pre(run.stdout)}"
    if run.stderr.strip():
        yield f'<p class="faint">On stderr:</p>{_pre(run.stderr)}'
    yield f"<h3>What the relay logged</h3>{_pre(chr(10).join(run.relay_log))}"


def _exchange(exchange: Exchange) -> Iterator[str]:
    yield f"<li><b>{exchange.at_s:.2f} s</b> {_text(exchange.heading)}"
    if exchange.asked:
        yield _list(exchange.asked, "said")
    if exchange.answered:
        yield _list(exchange.answered, "said answer")
    yield "</li>"


def _list(lines: Iterable[str], kind: str) -> str:
    return f'<ul class="{kind}">{"".join(f"<li>{_text(line)}</li>" for line in lines)}</ul>'


def _pre(text: str) -> str:
    return f"<pre>{_text(text)}</pre>"


def _anchor(result: Result) -> str:
    return _text(f"{result.variant}--{result.scenario}")


def _text(text: str) -> str:
    plain = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", _TERMINAL.sub("", text))
    return html.escape(plain)
