"""``cotun-trio hash-password``."""

from __future__ import annotations

import errno
import getpass
import io
import os
import pty
import sys

import pytest
import trio

from cotun_trio import cli
from cotun_trio.access import passwords
from cotun_trio.access.passwords import Secret


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "BCRYPT_ROUNDS", 4)
    monkeypatch.setattr(passwords, "ARGON2_MEMORY", 64)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def call(*argv: str) -> int | str | None:
    """Run the command; return its status."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["hash-password", *argv])
    return caught.value.code


def pipe(monkeypatch: pytest.MonkeyPatch, octets: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(octets), encoding="utf-8"))


def answers(monkeypatch: pytest.MonkeyPatch, *given: str | type[BaseException]) -> None:
    """Answer the prompts of a terminal."""
    left = list(given)

    def ask(_prompt: str) -> str:
        answer = left.pop(0)
        if not isinstance(answer, str):
            raise answer
        return answer

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", ask)


@pytest.mark.parametrize(
    ("argv", "kind"),
    [
        ([], "argon2id"),
        (["--scheme", "argon2id"], "argon2id"),
        (["--scheme", "bcrypt"], "bcrypt"),
    ],
)
def test_the_first_line_of_a_pipe_is_hashed(
    argv: list[str],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipe(monkeypatch, "pässword \r\nmore\n".encode())
    assert call(*argv) == 0
    out, err = capsys.readouterr()
    secret = Secret.parse(out.removesuffix("\n"))
    assert secret.cost is not None
    assert secret.cost[0] == kind
    assert secret.matches("pässword ")
    assert not err


def test_with_a_user_it_is_what_a_users_file_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(monkeypatch, "secret", "secret")
    assert call("alice") == 0
    user, _, text = capsys.readouterr().out.rstrip("\n").partition(":")
    assert user == "alice"
    assert Secret.parse(text).matches("secret")


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (("secret", "other"), "the two are not the same"),
        (("", ""), "the password is empty"),
        ((EOFError,), "no password"),
        (("secret", EOFError), "no password"),
        (("x" * 73, "x" * 73), "bcrypt looks at 72 octets"),
    ],
)
def test_what_is_wrong_is_said_on_one_line(
    given: tuple[str | type[BaseException], ...],
    error: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers(monkeypatch, *given)
    assert call("--scheme", "bcrypt") == 2
    out, err = capsys.readouterr()
    assert not out
    if EOFError in given:
        assert err[0] == "\n"  # the prompt has left the cursor behind it
    assert err.lstrip("\n").startswith(f"cotun-trio: {error}")
    assert len(err.lstrip("\n").splitlines()) == 1
    assert "secret" not in err


@pytest.mark.parametrize("octets", [b"", b"\n", b"caf\xe9\n"])
def test_a_pipe_without_a_password_is_an_error(
    octets: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe(monkeypatch, octets)
    assert call() == 2
    assert "caf" not in capsys.readouterr().err


@pytest.mark.parametrize("user", ["a:b", "a\nb", "a\x1bb"])
def test_a_name_that_cannot_be_one_is_an_error(
    user: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(user) == 2
    assert "no colon" in capsys.readouterr().err


def test_an_interrupt_ends_it_as_a_shell_expects(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(monkeypatch, KeyboardInterrupt)
    assert call() == 130
    assert capsys.readouterr().err == "\n"


def test_a_line_ends_where_it_ends_and_its_blanks_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe(monkeypatch, b" a\rb \nc\n")
    assert call("--scheme", "bcrypt") == 0
    assert Secret.parse(capsys.readouterr().out.rstrip("\n")).matches(" a\rb ")


def test_a_terminal_that_would_show_the_password_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = Terminal("hunter2\nhunter2\n")
    monkeypatch.setattr(sys, "stdin", typed)
    monkeypatch.setattr(getpass, "getpass", getpass.fallback_getpass)
    assert call() == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.splitlines() == ["cotun-trio: this terminal would show the password: use a pipe"]
    assert typed.tell() == 0


def test_what_is_typed_in_another_encoding_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(_prompt: str) -> str:
        return b"caf\xe9".decode()

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", ask)
    assert call() == 2
    assert capsys.readouterr() == ("", "cotun-trio: the password is not UTF-8\n")


def test_without_a_standard_input_there_is_no_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as after <&-
    assert call() == 2
    assert "no standard input" in capsys.readouterr().err


def test_a_hash_that_cannot_be_printed_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    pipe(monkeypatch, b"hunter2\n")
    monkeypatch.setattr(sys, "stdout", Full())
    assert call() == 2
    assert capsys.readouterr().err == (
        "cotun-trio: cannot print the hash: No space left on device\n"
    )


@pytest.mark.slow
async def test_a_terminal_shows_nothing_of_the_password() -> None:
    ours, theirs = pty.openpty()
    shown = b""

    async def read_until(end: bytes) -> None:
        nonlocal shown
        while end not in shown:
            await trio.lowlevel.wait_readable(ours)
            shown += os.read(ours, 1024)

    try:
        async with trio.open_nursery() as nursery:
            run = await nursery.start(
                lambda task_status: trio.run_process(
                    [sys.executable, "-m", "cotun_trio", "hash-password"],
                    stdin=theirs,
                    stdout=theirs,
                    stderr=theirs,
                    start_new_session=True,
                    task_status=task_status,
                )
            )
            os.set_blocking(ours, False)
            await read_until(b"Password: ")
            os.write(ours, b"hunter2\n")
            await read_until(b"Again: ")
            os.write(ours, b"hunter2\n")
            await read_until(b"$argon2id$")
            await read_until(b"\r\n")
            assert await run.wait() == 0
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"hunter2" not in shown
