"""docs/text.md shows the corpus as it is."""

import html
import re
import shlex

import pytest
from text_corpus.corpus import cases
from text_corpus.page import PAGE, with_corpus

from cosyduplex_server.cli import main


def test_the_page_shows_the_corpus_as_it_is() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_corpus(page), "run .venv/bin/python tests/text_corpus/page.py"


def test_every_case_is_on_the_page() -> None:
    page = html.unescape(PAGE.read_text(encoding="utf-8"))
    for case in cases():
        for line in case.lines:
            assert line in page, case.id


def test_no_text_of_a_case_is_taken_for_markup_of_the_page() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| <code>")]
    assert len(rows) == len(cases())
    for row in rows:
        written = re.match(r"\| <code>(.*?)</code> \| ", row)
        assert written is not None
        assert not re.search(r"[`*_\[\]<>|\\]", written[1]), row


def test_the_example_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    (command,) = re.findall(r"^```sh\ncosyduplex (.*)\n```$", page, re.MULTILINE)
    (printed,) = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert main(shlex.split(command)) == 0
    assert capsys.readouterr().out == printed
