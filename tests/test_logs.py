"""Log lines: their form, their context, and which of them are shown."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import pytest

from cotun_trio.logs import ROOT, configure, get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cotun_trio.logs import Context


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Undo what `configure` does to the process."""
    logger = logging.getLogger(ROOT)
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what was logged, without the time, and check that there was one each."""
    out, err = capsys.readouterr()
    assert not out
    found = []
    for line in err.splitlines():
        match = re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (.*)", line)
        assert match, line
        found.append(match[1])
    return found


def said(capsys: pytest.CaptureFixture[str], log: Context, message: str, *args: object) -> str:
    """Log a message and return its line."""
    configure(verbose=False)
    log.info(message, *args)
    (line,) = lines(capsys)
    return line


def test_a_line_says_when_and_which_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, get_logger("server"), "Listening on %s", "x") == "server: Listening on x"
    assert said(capsys, get_logger("client"), "Connected") == "client: Connected"


def test_context_nests(capsys: pytest.CaptureFixture[str]) -> None:
    outer = get_logger("server").within(session=3)
    inner = outer.within(user="alice", conn=7)
    assert said(capsys, inner, "open") == "server: session=3 user=alice conn=7: open"
    assert said(capsys, outer, "over") == "server: session=3: over"  # is not changed by it
    assert said(capsys, get_logger("server"), "up") == "server: up"


@pytest.mark.parametrize("user", ["100%", "%s", "%d%n", "%%", "%(x)s", "fe80::1%eth0"])
def test_a_percent_sign_in_the_context_is_itself(
    user: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log = get_logger("server").within(user=user).within(conn=1)
    for message, args, shown in (
        ("open", (), "open"),
        ("%d bytes of %s", (5, "%s"), "5 bytes of %s"),
        ("100%", (), "100%"),
        ("%s without arguments", (), "%s without arguments"),
        ("100%% of %s", ("x",), "100% of x"),
    ):
        assert said(capsys, log, message, *args) == f"server: user={user} conn=1: {shown}"


def test_without_context_a_message_is_what_logging_makes_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert said(capsys, get_logger("server"), "100% of %s") == "server: 100% of %s"
    assert said(capsys, get_logger("server"), "100%% of %s", "x") == "server: 100% of x"


@pytest.mark.parametrize("verbose", [False, True])
def test_single_connections_are_shown_only_when_asked_for(
    verbose: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(verbose=verbose)
    log = get_logger("server").within(conn=1)
    log.debug("detail")
    log.info("event")
    log.warning("warning")
    log.error("error")
    shown = [line.rpartition(": ")[2] for line in lines(capsys)]
    assert shown == ["detail"] * verbose + ["event", "warning", "error"]


def test_configured_again_it_does_not_say_things_twice(capsys: pytest.CaptureFixture[str]) -> None:
    configure(verbose=True)
    configure(verbose=False)
    get_logger("server").info("once")
    assert len(lines(capsys)) == 1


def test_nothing_is_said_again_by_a_handler_for_everything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    configure(verbose=True)
    get_logger("server").error("once")
    assert not caplog.records


def test_other_peoples_lines_are_none_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    configure(verbose=True)
    logging.getLogger("paramiko.transport").warning("noise")
    assert "noise" not in " ".join(
        line for line in capsys.readouterr().err.splitlines() if re.match(r"\d{4}-", line)
    )


def test_what_is_not_shown_is_not_even_put_together() -> None:
    class Costly:
        def __str__(self) -> str:
            raise AssertionError

    configure(verbose=False)
    get_logger("server").within(conn=1).debug("%s", Costly())


def test_a_traceback_comes_behind_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure(verbose=True)
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError:
        get_logger("server").within(conn=1).debug("what happened", exc_info=True)
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith("server: conn=1: what happened")
    assert rest[0].startswith("Traceback")
    assert rest[-1] == "ZeroDivisionError: why"
