"""The outcomes of unit tests as JUnit XML, which every CI server reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from warehouse_sync.model_tests.check import Outcome

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAGS = {"fail": "failure", "error": "error", "skip": "skipped"}


def junit_xml(pipeline: str, outcomes: Sequence[Outcome]) -> bytes:
    """The document, in UTF-8: one suite, one case a test, the diff as the failure's text."""

    def count(status: str) -> str:
        return str(sum(outcome.status == status for outcome in outcomes))

    totals = {"tests": str(len(outcomes)), "failures": count("fail"), "errors": count("error")}
    seconds = f"{sum(outcome.seconds for outcome in outcomes):.3f}"
    root = ElementTree.Element("testsuites", {"name": "warehouse-sync", **totals, "time": seconds})
    suite = ElementTree.SubElement(
        root, "testsuite", {"name": pipeline, **totals, "skipped": count("skip"), "time": seconds}
    )
    for outcome in outcomes:
        test = outcome.test
        case = ElementTree.SubElement(
            suite,
            "testcase",
            {
                "classname": test.model,
                "name": _NOT_XML.sub("?", test.name),
                "file": str(test.path),
                "line": str(test.line),
                "time": f"{outcome.seconds:.3f}",
            },
        )
        if outcome.status in _TAGS:
            text = _NOT_XML.sub("?", outcome.message)
            ElementTree.SubElement(case, _TAGS[outcome.status], {"message": text.partition("\n")[0]}).text = text
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"
