"""``cotun-trio hash-password``."""

from __future__ import annotations

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
    assert err.startswith(f"cotun-trio: {error}")
    assert len(err.splitlines()) == 1
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
