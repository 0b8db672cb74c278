"""Options of the command line about host keys, without serving or connecting."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import sys
from typing import TYPE_CHECKING, Any

import pytest

from cotun_trio import cli, daemon
from cotun_trio.access.fingerprints import fingerprint
from cotun_trio.access.host_keys import decode_host_key
from tests.support.keys import VECTORS, pem, public_blob

if TYPE_CHECKING:
    from pathlib import Path

    from cotun_trio.settings import ClientSettings, ServerSettings

FOOBAR = VECTORS[0]
CK = FOOBAR["keygen_stdout"]
PATTERN = re.compile(r"ck-[A-Za-z0-9+/]{162}")


class Ran:
    """What `main` was stopped at."""

    def __init__(self) -> None:
        self.servers: list[ServerSettings] = []
        self.clients: list[ClientSettings] = []

    def main(self, *arguments: str) -> int:
        """Run the command line, and return the exit status."""
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        code = caught.value.code
        assert code is None or isinstance(code, int)
        return code or 0

    def fingerprint(self) -> str:
        """Return that of the only server that would have been run."""
        (settings,) = self.servers
        assert settings.host_key is not None
        return fingerprint(settings.host_key.asbytes())


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ran:
    """Run nothing but note it, in an empty directory and without our variables."""
    ran = Ran()

    def note(where: list[Any]) -> Any:
        def run(settings: object, _process: object, **_options: object) -> int:
            where.append(settings)
            return 0

        return run

    monkeypatch.setattr(daemon, "run_server", note(ran.servers))
    monkeypatch.setattr(daemon, "run_client", note(ran.clients))
    for name in os.environ:
        if re.fullmatch("HOST|PORT|AUTH|(COTUN|CHISEL)_.*", name):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return ran


Capture = pytest.CaptureFixture[str]


# ---- --keygen


def test_keygen_prints_a_key_and_nothing_else(ran: Ran, capsys: Capture) -> None:
    assert ran.main("server", "--keygen", "-") == 0
    out, err = capsys.readouterr()
    assert PATTERN.fullmatch(out)  # no newline either, as chisel
    assert err == ""
    assert ran.servers == []


def test_keygen_makes_another_key_each_time(ran: Ran, capsys: Capture) -> None:
    outputs = set()
    for _ in range(2):
        ran.main("server", "--keygen", "-")
        outputs.add(capsys.readouterr().out)
    assert len(outputs) == 2


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: repr(vector["seed"][:12]))
def test_keygen_with_a_seed_prints_what_chisel_prints(
    vector: dict[str, str], ran: Ran, capsys: Capture
) -> None:
    assert ran.main("server", "--key", vector["seed"], "--keygen", "-") == 0
    assert capsys.readouterr() == (vector["keygen_stdout"], "")


def test_keygen_takes_the_seed_of_the_environment_and_says_so(
    ran: Ran, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTUN_KEY", "foobar")
    assert ran.main("server", "--keygen", "-") == 0
    out, err = capsys.readouterr()
    assert out == CK
    assert err == "cotun-trio: this is the key of COTUN_KEY, not a new one\n"


def test_keygen_writes_a_file_for_keyfile_and_says_its_fingerprint(
    ran: Ran, capsys: Capture, tmp_path: Path
) -> None:
    path = tmp_path / "host.key"
    assert ran.main("server", "--keygen", "host.key") == 0
    assert ran.servers == []
    assert PATTERN.fullmatch(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    expected = fingerprint(decode_host_key(path.read_bytes()).asbytes())
    assert capsys.readouterr() == ("", f"cotun-trio: wrote host.key, fingerprint {expected}\n")
    assert ran.main("server", "--keyfile", "host.key") == 0
    assert ran.fingerprint() == expected
    assert capsys.readouterr() == ("", "")


def test_keygen_needs_force_to_replace_a_file(ran: Ran, capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "host.key"
    path.write_text("precious")
    assert ran.main("server", "--keygen", "host.key") == 2
    assert "host.key exists already and is left as it is" in capsys.readouterr().err
    assert path.read_text() == "precious"
    assert ran.main("server", "--keygen", "host.key", "--force", "--key", "foobar") == 0
    assert path.read_text() == CK


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--keygen", ""], "--keygen needs the path"),
        (["--keygen", "--force"], "--keygen needs the path"),
        (["--keygen", "x", "--keyfile", "y"], "--keygen makes a key and --keyfile has one"),
        (["--force"], "--force is for --keygen only"),
        (["--keygen", "no/such/x"], "cannot write the key file no/such/x: No such file"),
        (["--keyfile", "x"], "--keyfile: there is no such file"),
        (["--keyfile", CK[:-5]], "--keyfile: this is not a whole ck- key"),
    ],
)
def test_what_makes_no_sense_ends_with_a_line_and_status_2(
    arguments: list[str], reason: str, ran: Ran, capsys: Capture, tmp_path: Path
) -> None:
    assert ran.main("server", *arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"cotun-trio: {reason}")
    assert err.count("\n") == 1
    assert out == ""
    assert CK[20:60] not in err
    assert ran.servers == []
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_cannot_be_printed_is_an_error(
    ran: Ran, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stdout", Full())
    assert ran.main("server", "--keygen", "-") == 2
    assert capsys.readouterr().err == "cotun-trio: cannot print the key: No space left on device\n"


# ---- --keyfile and --key


@pytest.mark.parametrize("kind", ["RSA", "Ed25519", "P-384"])
def test_keyfile_takes_a_pem_file(kind: str, ran: Ran, tmp_path: Path) -> None:
    path = tmp_path / "host.pem"
    path.write_bytes(pem(kind))
    path.chmod(0o600)
    assert ran.main("server", "--keyfile", "host.pem") == 0
    assert ran.fingerprint() == fingerprint(public_blob(kind))


@pytest.mark.parametrize("by", ["option", "variable"])
def test_keyfile_takes_a_ck_key(
    by: str, ran: Ran, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "variable":
        monkeypatch.setenv("COTUN_KEY_FILE", CK)
        assert ran.main("server") == 0
    else:
        assert ran.main("server", "--keyfile", CK) == 0
    assert ran.fingerprint() == FOOBAR["fingerprint_sha256"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("by", ["option", "variable"])
def test_key_has_the_fingerprint_of_chisel_and_a_warning(
    by: str, ran: Ran, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "variable":
        monkeypatch.setenv("COTUN_KEY", "foobar")
        assert ran.main("server") == 0
    else:
        assert ran.main("server", "--key", "foobar") == 0
    assert ran.fingerprint() == FOOBAR["fingerprint_sha256"]
    out, err = capsys.readouterr()
    name = "COTUN_KEY" if by == "variable" else "--key"
    assert err.startswith(f"cotun-trio: warning: {name} is deprecated: ")
    assert (out, err.count("\n")) == ("", 1)


def test_keyfile_wins_over_key_with_a_warning(ran: Ran, capsys: Capture) -> None:
    assert ran.main("server", "--key", "another", "--keyfile", CK) == 0
    assert ran.fingerprint() == FOOBAR["fingerprint_sha256"]
    err = capsys.readouterr().err
    assert err == "cotun-trio: warning: --key is ignored: --keyfile names the key\n"


def test_a_file_that_others_can_read_is_warned_of(
    ran: Ran, capsys: Capture, tmp_path: Path
) -> None:
    path = tmp_path / "host.key"
    path.write_text(CK)
    path.chmod(0o644)
    assert ran.main("server", "--keyfile", "host.key") == 0
    assert ran.fingerprint() == FOOBAR["fingerprint_sha256"]
    err = capsys.readouterr().err
    assert err.startswith("cotun-trio: warning: the key file host.key can be read by others")


def test_without_options_the_server_has_a_key_of_its_own_each_run(ran: Ran) -> None:
    for _ in range(2):
        assert ran.main("server") == 0
    first, second = (settings.host_key for settings in ran.servers)
    assert first is not None
    assert first != second


def test_the_settings_do_not_show_the_key(ran: Ran) -> None:
    assert ran.main("server", "--keyfile", CK) == 0
    (settings,) = ran.servers
    assert "host_key" not in repr(settings)
    assert "ECDSA" not in repr(settings)


# ---- --fingerprint


@pytest.mark.parametrize("form", ["fingerprint_sha256", "fingerprint_md5_legacy"])
def test_the_client_takes_both_forms_of_a_fingerprint(form: str, ran: Ran) -> None:
    assert ran.main("client", "--fingerprint", FOOBAR[form], "localhost", "3000") == 0
    assert [settings.fingerprint for settings in ran.clients] == [FOOBAR[form]]


@pytest.mark.parametrize(
    "text",
    ["", FOOBAR["fingerprint_sha256"][:-1], FOOBAR["fingerprint_md5_legacy"][:-3], "ed:f2", "x"],
)
def test_a_fingerprint_that_is_cut_short_ends_with_a_line_and_status_2(
    text: str, ran: Ran, capsys: Capture
) -> None:
    assert ran.main("client", "--fingerprint", text, "localhost", "3000") == 2
    assert "is not a fingerprint: copy the 44 characters" in capsys.readouterr().err
    assert ran.clients == []


# ---- --help


def test_the_help_has_the_options_and_fits_a_terminal(
    ran: Ran, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert ran.main("server", "--help") == 0
    out = capsys.readouterr().out
    for needed in (
        "--keyfile",
        "--keygen",
        "--force",
        "--key SEED",
        "COTUN_KEY_FILE]",
        "COTUN_KEY]",
    ):
        assert needed in out
    assert max(map(len, out.splitlines())) <= 80
