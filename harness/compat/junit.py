"""The results as JUnit XML, as CI systems read it: a suite for each row, a case for each cell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.compat.cell import Result

#: What XML 1.0 has no way to say: control characters of terminals, above all.
_UNSAYABLE: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(results: Sequence[Result], missing: Mapping[str, str]) -> bytes:
    """Return the document; `missing` are programs that were left out, with the reason."""
    root = ET.Element("testsuites", name="codexrelay compat")
    for row in dict.fromkeys(result.variant for result in results):
        suite = ET.SubElement(root, "testsuite")
        cells = [result for result in results if result.variant == row]
        _counted(suite, row, cells=cells, skipped=0)
        for cell in cells:
            _case(suite, cell)
    for name, reason in missing.items():
        suite = ET.SubElement(root, "testsuite")
        _counted(suite, name, cells=(), skipped=1)
        case = ET.SubElement(suite, "testcase", name=name, classname=f"compat.{name}", time="0")
        ET.SubElement(case, "skipped", message=_plain(reason))
    _counted(root, "codexrelay compat", cells=results, skipped=len(missing))
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _counted(element: ET.Element, name: str, *, cells: Sequence[Result], skipped: int) -> None:
    element.set("name", name)
    element.set("tests", str(len(cells) + skipped))
    element.set("failures", str(sum(not cell.ok for cell in cells)))
    element.set("errors", "0")
    if element.tag == "testsuite":
        element.set("skipped", str(skipped))
    element.set("time", f"{sum(cell.seconds for cell in cells):.3f}")


def _case(suite: ET.Element, cell: Result) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        name=cell.scenario,
        classname=f"compat.{cell.variant}",
        time=f"{cell.seconds:.3f}",
    )
    if not cell.ok:
        failure = ET.SubElement(case, "failure", message=_plain(cell.problems[0]), type="problem")
        failure.text = _plain("\n".join((*cell.problems, *cell.traces)))


def _plain(text: str) -> str:
    return _UNSAYABLE.sub("\N{REPLACEMENT CHARACTER}", text)
