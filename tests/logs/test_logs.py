"""Log lines: their form, their context, and which of them are shown."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pty
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import attrs
import pytest

from cotun_trio.logs import configure, context, get_logger, has_colours, is_journal
from tests.support.log_watch import restored_logging

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

    from cotun_trio.logs import Context


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Undo what `configure` does to the process."""
    with restored_logging():
        yield


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what was logged, without the time, and check that there was one each."""
    out, err = capsys.readouterr()
    assert not out
    found = []
    for line in err.splitlines():
        match = re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+ (.*)", line)
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


def test_a_process_among_others_says_which_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    configure(verbose=False, process={"worker": 2})
    get_logger("server").info("ready")
    get_logger("server").within(session=3).info("open")
    assert lines(capsys) == ["server: worker=2: ready", "server: worker=2 session=3: open"]
    configure(verbose=False, json_lines=True, process={"worker": 2})
    get_logger("server").within(session=3).info("open")
    line = json.loads(capsys.readouterr().err)
    assert (line["worker"], line["session"], line["message"]) == (2, 3, "open")
    configure(verbose=False)
    assert said(capsys, get_logger("server"), "ready") == "server: ready"


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


def test_what_is_not_shown_is_not_even_put_together(capsys: pytest.CaptureFixture[str]) -> None:
    class Costly:
        def __str__(self) -> str:
            raise AssertionError

    configure(verbose=False)
    get_logger("server").within(conn=1).debug("%s", Costly())
    assert lines(capsys) == []


def test_a_traceback_comes_behind_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure(verbose=True)
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError:
        get_logger("server").within(conn=1).debug("what happened", exc_info=True)
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith("server: conn=1: what happened")
    assert rest[0] == "  Traceback (most recent call last):"
    assert rest[-1] == "  ZeroDivisionError: why"


# ---- forms


def test_a_line_says_how_grave_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    configure(verbose=True, environment={})
    log = get_logger("server").within(session=3)
    for say in (log.debug, log.info, log.warning, log.error):
        say("x")
    shown = [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()]
    assert shown == [
        f"{level} server: session=3: x" for level in ("DEBUG", "INFO", "WARNING", "ERROR")
    ]


def test_a_json_line_has_everything_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    configure(verbose=False, json_lines=True)
    log = get_logger("server").within(session=3, user="al%ice").within(peer="[::1]:5")
    log.warning("%d%% of %s", 5, "a\nb")
    get_logger("client").info("100%")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    for line in (first, second):
        at = datetime.fromisoformat(line.pop("time"))
        assert abs(at - datetime.now(UTC)) < timedelta(minutes=1)
    assert first == {
        "level": "warning",
        "side": "server",
        "session": 3,
        "user": "al%ice",
        "peer": "[::1]:5",
        "message": "5% of a\nb",
    }
    assert second == {"level": "info", "side": "client", "message": "100%"}


def test_a_traceback_is_a_part_of_its_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure(verbose=True, json_lines=True)
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError:
        get_logger("server").within(conn=1).debug("what happened", exc_info=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["exception"].endswith("ZeroDivisionError: why")
    assert json.loads(line)["message"] == "what happened"


def test_a_context_says_each_name_once_and_the_innermost_value() -> None:
    log = get_logger("server").within(target="a", conn=1).within(target="b")
    assert log.pairs == {"target": "b", "conn": 1}


# ---- where standard error leads


@pytest.fixture
def terminal() -> Iterator[tuple[TextIO, int]]:
    """Give a terminal to write to, and its other end."""
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    with os.fdopen(slave, "w") as stream:
        yield stream, master
    os.close(master)


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_a_terminal_has_colours_unless_they_are_not_wanted(
    environment: dict[str, str], coloured: bool, terminal: tuple[TextIO, int]
) -> None:
    stream, other_end = terminal
    configure(verbose=False, stream=stream, environment=environment)
    log = get_logger("server")
    log.info("fine")
    log.error("bad")
    said = ""
    while said.count("\n") < 2:
        with contextlib.suppress(BlockingIOError):
            said += os.read(other_end, 1000).decode()
    assert said.count("\x1b[31mERROR\x1b[m") == coloured
    assert said.count("\x1b") == 2 * coloured
    assert has_colours(stream, environment) == coloured


def test_what_is_no_terminal_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    configure(verbose=False, environment={"TERM": "xterm"})
    get_logger("server").error("bad")
    assert "\x1b" not in capsys.readouterr().err


@attrs.frozen
class Journal:
    """A file in the place of systemd's journal."""

    stream: TextIO

    @property
    def environment(self) -> dict[str, str]:
        """What systemd would say about it."""
        status = os.fstat(self.stream.fileno())
        return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}

    def configure(self, *, json_lines: bool = False) -> None:
        """Have it logged to."""
        configure(
            verbose=True, json_lines=json_lines, stream=self.stream, environment=self.environment
        )

    def lines(self) -> list[str]:
        """Return what was written."""
        self.stream.seek(0)
        return self.stream.read().splitlines()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Give a journal."""
    with (tmp_path / "journal").open("w+") as stream:
        yield Journal(stream)


def test_the_journal_is_told_the_priority_of_each_line_and_no_time(journal: Journal) -> None:
    journal.configure()
    log = get_logger("server").within(session=3)
    for say in (log.debug, log.info, log.warning, log.error):
        say("x")
    assert journal.lines() == [f"<{priority}>server: session=3: x" for priority in (7, 6, 4, 3)]


def test_to_the_journal_every_line_of_a_traceback_is_a_line(journal: Journal) -> None:
    journal.configure()
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError:
        get_logger("server").error("what happened", exc_info=True)
    assert len(journal.lines()) > 3
    assert all(line.startswith("<3>") for line in journal.lines())


def test_json_lines_for_the_journal_have_a_priority_too(journal: Journal) -> None:
    journal.configure(json_lines=True)
    get_logger("server").info("x")
    (line,) = journal.lines()
    assert json.loads(line.removeprefix("<6>"))["message"] == "x"


def test_the_variable_alone_does_not_make_a_journal(journal: Journal) -> None:
    # A process inherits it, and may have its standard error elsewhere.
    environment = journal.environment
    assert is_journal(journal.stream, environment)
    assert not is_journal(journal.stream, {"JOURNAL_STREAM": "1:2"})
    assert not is_journal(journal.stream, {})
    assert not is_journal(None, environment)
    assert not is_journal(io.StringIO(), environment)


# ---- errors that nobody has foreseen


@pytest.fixture
def no_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no place of an error known yet."""
    monkeypatch.setattr(context, "_places", set())


def fail(number: int) -> None:
    if number:
        raise ValueError(number)
    raise ValueError("another line")


@pytest.mark.usefixtures("no_places")
def test_an_error_has_its_traceback_once_for_each_place() -> None:
    stream = io.StringIO()
    configure(verbose=False, stream=stream)
    for number in (1, 2, 0):
        try:
            fail(number)
        except ValueError:
            get_logger("server").within(session=1).exception("internal error")
    said = stream.getvalue()
    assert said.count("ERROR server: session=1: internal error\n") == 3
    assert said.count("Traceback (most recent call last)") == 2
    assert "ValueError: 1\n" in said
    assert "ValueError: 2\n" not in said
    assert "ValueError: another line\n" in said


@pytest.mark.usefixtures("no_places")
def test_the_place_of_a_group_is_that_of_its_first_error() -> None:
    stream = io.StringIO()
    configure(verbose=False, stream=stream)
    for number in (1, 0):
        try:
            try:
                fail(number)
            except ValueError as error:
                raise ExceptionGroup("nursery", [error]) from None
        except ExceptionGroup:
            get_logger("server").exception("internal error")
    assert stream.getvalue().count("Exception Group Traceback") == 2


@pytest.mark.usefixtures("no_places")
def test_tracebacks_of_many_places_end_at_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "MAX_PLACES", 1)
    stream = io.StringIO()
    configure(verbose=False, stream=stream)
    for number in (1, 0):
        try:
            fail(number)
        except ValueError:
            get_logger("server").exception("internal error")
    assert stream.getvalue().count("Traceback") == 1
    assert stream.getvalue().count("internal error") == 2


@pytest.mark.usefixtures("no_places")
@pytest.mark.parametrize("json_lines", [False, True])
def test_the_text_of_an_error_forges_no_line(json_lines: bool) -> None:
    stream = io.StringIO()
    configure(verbose=False, stream=stream, json_lines=json_lines)
    try:
        raise ValueError("a\n2026-01-01 00:00:00 INFO server: all is well\x1b[2J")
    except ValueError:
        get_logger("server").exception("internal error")
    said = stream.getvalue()
    assert "\x1b" not in said
    assert "all is well" in said
    assert not any(line.startswith("2026-01-01") for line in said.splitlines())


def test_a_json_line_has_the_facts_of_its_message_as_fields(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(verbose=False, json_lines=True)
    for log in (get_logger("client"), get_logger("client").within(peer="1.2.3.4:5")):
        log.warning(
            "lost after %s: %s", "2s", "cut", extra={"facts": {"seconds": 2.5, "reason": "cut"}}
        )
    plain, with_context = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    for line in (plain, with_context):
        assert (line["seconds"], line["reason"]) == (2.5, "cut")
        assert line["message"] == "lost after 2s: cut"
    assert with_context["peer"] == "1.2.3.4:5"


def test_a_line_of_text_has_its_facts_in_the_message_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(verbose=False)
    get_logger("client").warning("lost: %s", "cut", extra={"facts": {"reason": "cut"}})
    assert capsys.readouterr().err.endswith(" WARNING client: lost: cut\n")


@pytest.mark.parametrize(
    ("options", "lowest"),
    [({"quiet": True}, "warning"), ({}, "info"), ({"quiet": True, "verbose": True}, "debug")],
)
def test_the_lowest_level_that_is_logged(
    options: dict[str, bool], lowest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(**{"verbose": False, "json_lines": True, **options})  # type: ignore[arg-type]
    log = get_logger("client")
    log.error("error")
    log.warning("warning")
    log.info("info")
    log.debug("debug")
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["level"] == lowest
