"""Runs as JUnit XML, which most CI systems draw: a suite per run, a case per test."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.results import Result, Run

_ELEMENTS = {
    "fail": "failure",
    "crash": "failure",
    "timeout": "failure",
    "xpass": "failure",
    "error": "error",
    "xfail": "skipped",
    "unsupported": "skipped",
    "blocked": "skipped",
}
# XML 1.0 has no way to write these at all.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(runs: Sequence[Run]) -> str:
    """Write `runs` as one document.

    A planned test without a result is an error: its run was cut short. Known
    deviations, what is not claimed and what the machine lacks are skipped, with the
    outcome as their type.
    """
    root = ET.Element("testsuites", name="aoti-conformance")
    for run in runs:
        _add_suite(root, run)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add_suite(root: ET.Element, run: Run) -> None:
    elements = [_ELEMENTS.get(result.outcome) for result in run.results]
    suite = ET.SubElement(
        root,
        "testsuite",
        name=_text(run.name),
        tests=str(len(run.plan)),
        failures=str(elements.count("failure")),
        errors=str(elements.count("error") + len(run.missing)),
        skipped=str(elements.count("skipped")),
        time=f"{sum(result.seconds for result in run.results):.3f}",
    )
    if "started" in run.header:
        suite.set("timestamp", _text(run.header["started"]))
    told = {
        "torch": run.header["environment"]["versions"].get("torch", "none"),
        "device": run.header["environment"].get("device", "cpu"),
        "catalogue": run.header["catalogue"],
        **{f"verdict.{name}": str(entry) for name, entry in run.verdicts.items()},
    }
    properties = ET.SubElement(suite, "properties")
    for name, value in told.items():
        ET.SubElement(properties, "property", name=name, value=_text(value))
    for result in run.results:
        _add_case(suite, run, result)
    for test in run.missing:
        case = _case(suite, test, run.plan[test])
        ET.SubElement(case, "error", type="missing", message="the run was cut short")


def _add_case(suite: ET.Element, run: Run, result: Result) -> None:
    case = _case(suite, result.id, result.clause)
    case.set("time", f"{result.seconds:.3f}")
    element = _ELEMENTS.get(result.outcome)
    if element is None:
        return
    first = result.message.partition("\n")[0] or result.outcome
    found = ET.SubElement(case, element, type=result.outcome, message=_text(first))
    title = run.clauses.get(result.clause, {}).get("title", "")
    told = [f"{result.clause} {title}", result.message, result.command]
    found.text = _text("\n\n".join(part for part in told if part))


def _case(suite: ET.Element, test: str, clause: str) -> ET.Element:
    name = _text(test.partition("::")[2] or test)
    return ET.SubElement(suite, "testcase", classname=clause, name=name)


def _text(text: str) -> str:
    return _UNWRITABLE.sub("\ufffd", text)
