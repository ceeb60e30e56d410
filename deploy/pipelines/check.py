"""Whether the reports say the same, and keep what came from traffic in its place. Gets the folder that they are in."""

import html.parser
import json
import pathlib
import re
import sys
import xml.etree.ElementTree

FIELD = "</td><script>alert(1)</script>&\"'"
VOID = {"meta", "br", "link", "img"}


class Page(html.parser.HTMLParser):
    """Elements that were opened and closed, and the text between them."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], set(), ""

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        for name, value in attrs:
            assert not name.startswith("on") and name not in ("src", "href"), (tag, name, value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        self.text += data


def check_page(folder):
    page = Page()
    page.feed((folder / "report.html").read_text())
    assert not page.open, f"left open: {page.open}"
    assert not page.seen & {"script", "img", "link", "iframe", "object"}, page.seen
    assert {"svg", "table", "style"} <= page.seen, page.seen
    assert FIELD.split("&")[0] in page.text, "the page does not show the field's name as it is"


def check_annotations(folder):
    lines = (folder / "github").read_text().splitlines()
    command = re.compile(r"^::(error|warning|notice) [^:]+::.+$")
    odd = [line for line in lines if not command.match(line)]
    assert not odd, odd
    assert lines[0].startswith("::error file=checkgate.yaml,line=1,title=one_field_sweep"), lines[0]


def main(folder):
    report = json.loads((folder / "report.json").read_text())
    findings = report["traffic"]["findings"]
    assert [finding["severity"] for finding in findings] == ["high"], findings
    sarif = json.loads((folder / "report.sarif").read_text())
    results = sarif["runs"][0]["results"]
    assert [result["ruleId"] for result in results] == ["one_field_sweep"], results
    assert len(json.loads((folder / "gitlab.json").read_text())) == 1
    suites = xml.etree.ElementTree.parse(folder / "report.xml").getroot()
    failures = suites.findall(".//failure")
    assert len(failures) == 1 and FIELD.split("&")[0] in failures[0].text, [failure.text for failure in failures]
    assert len(suites.findall(".//testcase")) == 26, "one client and 25 attacks"
    check_page(folder)
    check_annotations(folder)
    print("reports: one finding in each, nothing out of its place")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
