"""What `make fuzz` says of a target's end; it is read from libFuzzer's output."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.__main__ import Result, _exception, _figures, _report

LOG = """\
#2	INITED cov: 40 ft: 41 corp: 1/5b exec/s: 0 rss: 42Mb
#4096	NEW    cov: 117 ft: 300 corp: 30/900b lim: 43 exec/s: 409 rss: 42Mb L: 9/43 MS: 1 CopyPart-

 === Uncaught Python exception: ===
KeyError: 7
Traceback (most recent call last):
"""


def test_a_log_says_how_much_was_tried_and_what_was_raised() -> None:
    assert _figures(LOG) == "4096 inputs, 409 a second; 117 branches"
    assert _exception(LOG) == "KeyError: 7"


def test_a_log_of_nothing_says_so() -> None:
    assert _figures("ModuleNotFoundError: atheris") == "nothing was tried"
    assert _exception("") == ""


@pytest.mark.parametrize(
    ("findings", "status", "expected"),
    [((), 0, 0), ((Path("crash-1"),), 77, 1), ((), 1, 1), ((Path("timeout-1"),), 0, 1)],
)
def test_the_status_says_whether_there_was_anything(
    findings: tuple[Path, ...], status: int, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _report(Result("gob", findings, "1 input", "KeyError: 7", status)) == expected
    said = capsys.readouterr().out
    assert all(f"tests.fuzz.one gob {finding}" in said for finding in findings)
    assert ("FAILED" in said) == (status != 0 and not findings)
