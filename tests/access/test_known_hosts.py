"""Known hosts: what is remembered, refused and forgotten, and what the file may look like."""

from __future__ import annotations

import codecs
import stat
from typing import TYPE_CHECKING

import pytest

from cotun_trio.access.known_hosts import KnownHosts, default_path
from cotun_trio.errors import FingerprintMismatch, UsageError

if TYPE_CHECKING:
    from pathlib import Path

ONE, OTHER = "1" * 43 + "=", "2" * 43 + "="


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "cotun-trio" / "known_hosts"


def test_a_key_is_remembered_in_a_file_of_its_own(path: Path) -> None:
    hosts = KnownHosts(str(path))
    assert hosts.find("a:1") is None
    assert hosts.meet("a:1", ONE)
    assert not hosts.meet("a:1", ONE)
    assert hosts.meet("b:1", OTHER)
    assert KnownHosts(str(path)).find("a:1") == ONE
    assert path.read_text() == f"a:1 {ONE}\nb:1 {OTHER}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_another_key_is_refused_with_both_and_what_to_do(path: Path) -> None:
    hosts = KnownHosts(str(path))
    hosts.meet("a:1", ONE)
    with pytest.raises(
        FingerprintMismatch, match=f"cotun-trio forget a:1 --known-hosts {path}$"
    ) as caught:
        hosts.meet("a:1", OTHER)
    assert ONE in str(caught.value)
    assert OTHER in str(caught.value)
    assert hosts.find("a:1") == ONE


def test_a_server_that_was_forgotten_is_new_again_and_the_others_stay(path: Path) -> None:
    hosts = KnownHosts(str(path))
    path.parent.mkdir(parents=True)
    path.write_text(f"# mine\n\na:1 {ONE}\nb:1 {ONE}\n")
    assert hosts.forget("a:1")
    assert not hosts.forget("a:1")
    assert path.read_text() == f"# mine\n\nb:1 {ONE}\n"
    assert hosts.meet("a:1", OTHER)


def test_the_file_may_begin_with_a_byte_order_mark(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(codecs.BOM_UTF8 + f"a:1 {ONE}\n".encode())
    hosts = KnownHosts(str(path))
    assert not hosts.meet("a:1", ONE)
    assert hosts.forget("a:1")
    assert hosts.find("a:1") is None


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a:1\n", "line 1: not of the form"), (b"\n a b c", "line 2"), (b"\xff", "not UTF-8")],
)
def test_a_file_with_a_mistake_is_the_users_error(path: Path, content: bytes, said: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        KnownHosts(str(path)).meet("a:1", ONE)
    assert path.read_bytes() == content


def test_a_file_that_others_can_change_is_refused(path: Path) -> None:
    hosts = KnownHosts(str(path))
    hosts.meet("a:1", ONE)
    path.chmod(0o602)
    with pytest.raises(UsageError, match=r"known hosts .* chmod go-w"):
        hosts.meet("a:1", ONE)


def test_a_file_that_cannot_be_written_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot .* the known hosts"):
        KnownHosts(str(tmp_path / "file" / "known")).meet("a:1", ONE)


def test_the_file_is_in_the_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/a")
    assert default_path({"XDG_STATE_HOME": "/s"}) == "/s/cotun-trio/known_hosts"
    assert default_path({}) == "/home/a/.local/state/cotun-trio/known_hosts"
