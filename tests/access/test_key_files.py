"""Key files: who can read them, what they never overwrite, what an error never shows."""

from __future__ import annotations

import base64
import errno
import os
import socket
import stat
from typing import TYPE_CHECKING, Any

import pytest

from cotun_trio.access.fingerprints import fingerprint
from cotun_trio.access.key_files import MAX_SIZE, load_host_key, write_key_file
from cotun_trio.errors import UsageError
from tests.support.keys import CONTAINERS, VECTORS, chain_of, pem, public_blob

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CK = VECTORS[0]["keygen_stdout"]
FINGERPRINT = VECTORS[0]["fingerprint_sha256"]


def never(line: str) -> None:
    raise AssertionError(f"an unexpected warning: {line}")


def fingerprint_of(text: str) -> str:
    return fingerprint(load_host_key(text, never).asbytes())


def key_file(directory: Path, content: bytes = CK.encode(), *, mode: int = 0o600) -> str:
    path = directory / "host.key"
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


# ---- reading


def test_a_ck_key_can_be_given_itself() -> None:
    assert fingerprint_of(CK) == FINGERPRINT


@pytest.mark.parametrize("content", [CK, f"{CK}\n", f"{CK}\r\n"], ids=["", "LF", "CRLF"])
def test_a_ck_key_can_be_in_a_file(content: str, tmp_path: Path) -> None:
    assert fingerprint_of(key_file(tmp_path, content.encode())) == FINGERPRINT


@pytest.mark.parametrize("content", [CK.encode(), f"{CK}\n".encode(), pem(*CONTAINERS[0])])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.encodebytes], ids=["", "wrapped"])
def test_the_base64_of_a_key_will_do_as_the_help_of_the_go_programs_pipes_it(
    content: bytes, encode: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    expected = load_host_key(key_file(tmp_path, content), never).asbytes()
    text = encode(content)
    assert load_host_key(text.decode(), never).asbytes() == expected
    assert load_host_key(key_file(tmp_path, text), never).asbytes() == expected


def test_a_part_of_the_base64_of_a_key_is_no_key_and_not_shown() -> None:
    text = base64.b64encode(CK.encode()).decode()[:80]
    with pytest.raises(UsageError, match="not a whole ck- key") as caught:
        load_host_key(text, never)
    assert text[:20] not in str(caught.value)


@pytest.mark.parametrize(("kind", "container"), CONTAINERS)
def test_a_pem_file_can_be_named(kind: str, container: str, tmp_path: Path) -> None:
    path = key_file(tmp_path, pem(kind, container))
    assert load_host_key(path, never).asbytes() == public_blob(kind)


def test_a_key_file_may_be_behind_a_link_as_orchestrators_have_it(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(key_file(tmp_path))
    assert fingerprint_of(str(link)) == FINGERPRINT


def test_a_key_can_come_from_a_pipe_as_shells_substitute_it() -> None:
    end, other = os.pipe()
    os.write(other, CK.encode())
    os.close(other)
    try:
        assert fingerprint_of(f"/dev/fd/{end}") == FINGERPRINT
    finally:
        os.close(end)


def test_a_file_whose_name_begins_like_a_key_is_reached_by_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ck-host").write_text(CK)
    (tmp_path / "ck-host").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="a file whose name begins with ck- is "):
        load_host_key("ck-host", never)
    assert fingerprint_of("./ck-host") == FINGERPRINT


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_can_read_is_used_with_a_warning(mode: int, tmp_path: Path) -> None:
    path = key_file(tmp_path, mode=mode)
    warnings: list[str] = []
    key = load_host_key(path, warnings.append)
    assert fingerprint(key.asbytes()) == FINGERPRINT
    assert len(warnings) == 1
    assert f"the key file {path} can be read by others than its owner" in warnings[0]
    assert warnings[0].isprintable()


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700, 0o611])
def test_a_file_that_only_its_owner_can_read_gives_no_warning(mode: int, tmp_path: Path) -> None:
    assert fingerprint_of(key_file(tmp_path, mode=mode)) == FINGERPRINT


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "there is no private key in it"),
        (CK[:-9].encode(), "this is not a whole ck- key"),
        (pem("RSA-1024"), "the RSA key has 1024 bits"),
        (pem("P-256", password=b"secret"), "the private key in it is encrypted"),
        (b"x" * (MAX_SIZE + 1), f"has over {MAX_SIZE} bytes: it is no key"),
    ],
    ids=["empty", "cut short", "too weak", "encrypted", "too long"],
)
def test_an_error_about_the_content_names_the_file(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    path = key_file(tmp_path, content)
    with pytest.raises(UsageError, match=reason) as caught:
        load_host_key(path, never)
    assert path in str(caught.value)


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(UsageError, match="it is no key"):
        load_host_key("/dev/zero", never)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_host_key(str(tmp_path), never)
    assert str(caught.value) == f"cannot read the key file {tmp_path}: Is a directory"


def test_a_name_that_a_terminal_would_obey_is_escaped(tmp_path: Path) -> None:
    directory = tmp_path / "\x1b[31m\n"
    directory.mkdir()
    with pytest.raises(UsageError) as caught:
        load_host_key(str(directory), never)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        CK.removeprefix("ck-"),
        CK.replace("ck-", "CK-"),
        CK[:-1],
        f"{CK}=",
        f'"{CK}"',
        f"{CK}\0",
        f"{CK.removeprefix('ck-')}\0",
        pem("P-256").decode(),
        pem("RSA").decode(),
        "/" + CK.removeprefix("ck-") * 30,
    ],
)
def test_a_key_in_the_wrong_form_is_not_shown(text: str) -> None:
    secrets = [text.strip("'\"\0/").removeprefix("ck-")[40:60], text.splitlines()[-2:][0][5:25]]
    with pytest.raises(UsageError) as caught:
        load_host_key(text, never)
    shown = "".join(chain_of(caught.value))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert not [secret for secret in secrets if secret in shown]


# ---- writing


def test_a_new_file_has_the_text_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "host.key"
    umask = os.umask(0)
    try:
        write_key_file(str(path), CK, force=False)
    finally:
        os.umask(umask)
    assert path.read_text() == CK
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert fingerprint_of(str(path)) == FINGERPRINT


@pytest.mark.parametrize("force", [False, True])
def test_a_symbolic_link_is_never_followed(force: bool, tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("precious")
    link.symlink_to(target)
    with pytest.raises(UsageError, match="exists already and is left as it is"):
        write_key_file(str(link), CK, force=force)
    assert target.read_text() == "precious"
    assert link.readlink() == target
    assert sorted(tmp_path.iterdir()) == [link, target]


@pytest.mark.parametrize("force", [False, True])
def test_a_dangling_link_does_not_make_a_file_elsewhere(force: bool, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="exists already"):
        write_key_file(str(link), CK, force=force)
    assert list(tmp_path.iterdir()) == [link]


def test_a_file_that_is_there_is_left_alone_and_force_is_named(tmp_path: Path) -> None:
    path = tmp_path / "host.key"
    path.write_text("precious")
    with pytest.raises(UsageError, match="with --force it would be replaced"):
        write_key_file(str(path), CK, force=False)
    assert path.read_text() == "precious"


def test_force_replaces_a_file_as_a_whole_and_closes_it_to_others(tmp_path: Path) -> None:
    path, other_name = tmp_path / "host.key", tmp_path / "backup"
    path.write_text("precious")
    path.chmod(0o666)
    other_name.hardlink_to(path)
    with path.open() as reader:
        write_key_file(str(path), CK, force=True)
        assert reader.read() == "precious"  # who had it open sees the old one, never a half
    assert path.read_text() == CK
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert other_name.read_text() == "precious"
    assert sorted(tmp_path.iterdir()) == [other_name, path]


def test_force_makes_a_new_file_too(tmp_path: Path) -> None:
    write_key_file(str(tmp_path / "host.key"), CK, force=True)
    assert (tmp_path / "host.key").read_text() == CK


def test_a_link_that_takes_the_files_place_meanwhile_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, target = tmp_path / "host.key", tmp_path / "target"
    path.write_text("old")
    target.write_text("precious")
    fsync = os.fsync

    def swap(descriptor: int) -> None:  # at the last moment before the new file is put in place
        assert len(list(tmp_path.iterdir())) == 3  # it is made beside the old one
        path.unlink()
        path.symlink_to(target)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", swap)
    write_key_file(str(path), CK, force=True)
    assert target.read_text() == "precious"
    assert not path.is_symlink()
    assert path.read_text() == CK


@pytest.mark.parametrize("force", [False, True])
def test_what_is_not_a_regular_file_is_left_alone(force: bool, tmp_path: Path) -> None:
    directory, pipe, unix = tmp_path / "directory", tmp_path / "pipe", tmp_path / "socket"
    directory.mkdir()
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(unix))
    before = {path: path.lstat().st_ino for path in tmp_path.iterdir()}
    for path in (directory, pipe, unix):
        with pytest.raises(UsageError, match="left as it is"):
            write_key_file(str(path), CK, force=force)
    assert {path: path.lstat().st_ino for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_disk_that_is_full_leaves_no_half_of_a_key(
    force: bool, replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "host.key"
    if replaced:
        path.write_text("precious")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    expected = "No space left" if force or not replaced else "exists already"
    with pytest.raises(UsageError, match=expected):
        write_key_file(str(path), CK, force=force)
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["precious"] * replaced


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no/such/directory", "No such file or directory"),
        ("/dev/null/key", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("directory/", "Is a directory"),
        ("nul\0", "is not a path"),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_a_path_that_cannot_be_is_refused_with_the_reason(
    path: str, reason: str, force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=reason) as caught:
        write_key_file(path, CK, force=force)
    assert str(caught.value).isprintable()
    assert CK[30:60] not in "".join(chain_of(caught.value))
    assert not list(tmp_path.iterdir())


def test_the_file_is_new_by_one_call_that_cannot_be_raced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[int, int]] = []
    real_open = os.open

    def spy(path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        opened.append((flags, mode))
        return real_open(path, flags, mode, **options)

    monkeypatch.setattr(os, "open", spy)
    write_key_file(str(tmp_path / "a"), CK, force=False)
    write_key_file(str(tmp_path / "a"), CK, force=True)
    needed = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    assert [(flags & needed, mode) for flags, mode in opened] == [(needed, 0o600)] * 2
