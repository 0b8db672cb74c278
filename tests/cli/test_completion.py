"""``cotun-trio completion``, with the script in real shells."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cotun_trio.cli import main
from cotun_trio.cli.app import app, parse
from cotun_trio.cli.completion import script
from cotun_trio.errors import UsageError
from tests.support.peers import needs
from tests.support.programs import PATIENCE, ended

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


# ---- the command


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_names_every_command_and_option(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parse(["completion", shell]) == 0
    made = capsys.readouterr().out
    assert made.endswith("\n")
    words = set(re.findall(r"[\w-]+", made))
    for name in app:
        assert name.lstrip("-" if shell == "fish" else "") in words
    for argument in app["client"].assemble_argument_collection(parse_docstring=False):
        for option in argument.parameter.name or ():
            if option.startswith("--"):
                assert option.lstrip("-" if shell == "fish" else "") in words


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["tcsh"], 'Invalid value "tcsh" for SHELL. Choose from: "bash", "zsh", "fish"'),
        ([], "SHELL"),
        (["bash", "zsh"], "zsh"),
    ],
    ids=str,
)
def test_one_of_three_shells_has_to_be_named(
    words: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["completion", *words])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("cotun-trio: ")
    assert error in err


def test_a_script_that_cannot_be_printed_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123  no Path: it is a device
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(UsageError, match="cannot print the script: No space left on device"):
            parse(["completion", "bash"])
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()


@pytest.mark.slow
def test_other_commands_do_not_import_what_makes_the_script() -> None:
    code = (
        "import sys, cotun_trio.cli; "
        "sys.exit(any(name.startswith('cyclopts.completion') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- in shells


class Terminal:
    """The outer side of a terminal, and all that the shell on it has said."""

    def __init__(self, descriptor: int) -> None:
        self.said = b""
        self._descriptor = descriptor

    def read(self, mark: bytes | None) -> None:
        """Read until the shell has said `mark`; up to its end where that is None."""
        while mark is None or mark not in self.said:
            ready, _, _ = select.select([self._descriptor], [], [], PATIENCE)
            assert ready, self.said
            try:
                self.said += os.read(self._descriptor, 65536)
            except OSError:  # EIO: the shell has ended
                assert mark is None, self.said
                return

    def write(self, text: str) -> None:
        os.write(self._descriptor, text.encode())


def typed(shell: list[str], setup: str, line: str, home: Path) -> list[str]:
    """Type a command line and a TAB into a shell on a terminal; return the words that it runs."""
    (home / "setup").write_text(
        setup + "\nPS1='loaded>'; cotun-trio() { printf 'word=%s.\\n' \"$@\"; exit; }\n"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", "PS1": "new>"}
    outside, inside = pty.openpty()
    with os.fdopen(outside, "rb", buffering=0), os.fdopen(inside, "wb", buffering=0) as its_end:
        process = subprocess.Popen(
            shell,
            stdin=its_end,
            stdout=its_end,
            stderr=its_end,
            cwd=home,
            env=environment,
            start_new_session=True,
        )
        its_end.close()  # so that the end of the shell is the end of what it says
        terminal = Terminal(outside)
        with ended(process):
            terminal.read(b"new>")  # a prompt: the shell, and not the terminal, edits the line now
            terminal.write(". ./setup\n")
            terminal.read(b"loaded>")
            terminal.write(f"{line}\t\n")
            terminal.read(None)
    return re.findall(r"^word=(.*)\.\r?$", terminal.said.decode(errors="replace"), re.MULTILINE)


def in_bash(line: str, home: Path) -> list[str]:
    return typed(["bash", "--norc", "--noprofile", "-i"], script("bash"), line, home)


def in_zsh(line: str, home: Path) -> list[str]:
    setup = f"autoload -U compinit\ncompinit -u -D\n{script('zsh')}"
    return typed(["zsh", "-f", "-i"], setup, line, home)


def in_fish(line: str, home: Path) -> list[str]:
    """Return the words with the only completion that there is."""
    (home / "script").write_text(script("fish"))
    done = subprocess.run(
        ["fish", "--no-config", "-c", 'source script; complete -C "$argv"', line],
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        capture_output=True,
        check=True,
        timeout=PATIENCE,
        text=True,
    )
    assert not done.stderr
    (candidate,) = done.stdout.splitlines()
    return [*line.split()[1:-1], candidate.partition("\t")[0]]


SHELLS = [
    pytest.param(in_bash, marks=needs("bash"), id="bash"),
    pytest.param(in_zsh, marks=needs("zsh"), id="zsh"),
    pytest.param(in_fish, marks=needs("fish"), id="fish"),
]


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.parametrize("completed", SHELLS)
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("cotun-trio cl", ["client"]),
        ("cotun-trio config ch", ["config", "check"]),
        ("cotun-trio client --finger", ["client", "--fingerprint"]),
        ("cotun-trio client http://h 3000 --rem", ["client", "http://h", "3000", "--remote"]),
        ("cotun-trio client -v --protocol cot", ["client", "-v", "--protocol", "cotun"]),
        ("cotun-trio server --reverse --tls-ce", ["server", "--reverse", "--tls-cert"]),
        ("cotun-trio server --authfile use", ["server", "--authfile", "users.json"]),
        ("cotun-trio config check cot", ["config", "check", "cotun.toml"]),
        ("cotun-trio completion z", ["completion", "zsh"]),
    ],
    ids=str,
)
def test_a_tab_completes_a_word(
    completed: Callable[[str, Path], list[str]], line: str, words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "users.json").touch()
    (tmp_path / "cotun.toml").touch()
    assert completed(line, tmp_path) == words


@pytest.mark.slow
@pytest.mark.interop
@needs("zsh")
def test_zsh_also_loads_the_script_from_its_directory_of_functions(tmp_path: Path) -> None:
    functions = tmp_path / "functions"
    functions.mkdir()
    (functions / "_cotun-trio").write_text(script("zsh"))
    setup = "fpath=($PWD/functions $fpath)\nautoload -U compinit\ncompinit -u -D"
    assert typed(["zsh", "-f", "-i"], setup, "cotun-trio cl", tmp_path) == ["client"]
