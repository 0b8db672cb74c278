"""`cotun_trio.access.files`: byte order marks, and files that others could change."""

from __future__ import annotations

import codecs
import grp
import os
import pwd
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from cotun_trio.access.authfile import load_authfile
from cotun_trio.access.credentials import read_credentials
from cotun_trio.access.files import read_file
from cotun_trio.access.host_keys import encode_host_key, generate_host_key
from cotun_trio.access.key_files import load_host_key
from cotun_trio.cli.config_file import load_config, read_toml
from cotun_trio.errors import UsageError
from cotun_trio.net.tls_files import client_context, server_context
from cotun_trio.settings import ClientTls, ServerTls
from tests.support.certificates import Authority
from tests.support.keys import VECTORS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CK = VECTORS[0]["keygen_stdout"]


def ignore(_line: str) -> None:
    """Take a warning."""


@pytest.fixture
def private_group(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have the test's user be alone in its group, by the names; give the members to change."""
    members: list[str] = []
    group = SimpleNamespace(gr_name="alice", gr_mem=members)
    user = SimpleNamespace(pw_name="alice", pw_gid=os.getgid())
    monkeypatch.setattr(pwd, "getpwuid", lambda _number: user)
    monkeypatch.setattr(grp, "getgrgid", lambda _number: group)
    return members


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Give a file that its owner alone may change."""
    path = tmp_path / "secret"
    path.write_text("secret")
    path.chmod(0o600)
    return path


# ---- byte order marks


def marked(path: Path, content: bytes) -> str:
    """Write a file that begins with a byte order mark."""
    path.write_bytes(codecs.BOM_UTF8 + content)
    path.chmod(0o600)
    return str(path)


def test_a_users_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert load_authfile(marked(tmp_path / "users", b'{"alice:secret": [""]}')).users


def test_a_configuration_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert load_config(marked(tmp_path / "toml", b"[server]\nport = 1\n"))["server"]["port"] == 1


def test_a_password_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    found = read_credentials(marked(tmp_path / "auth", b"alice:secret\r\n"))
    assert found is not None
    assert found.user == "alice"


@pytest.mark.parametrize("kind", ["ck", "pem"])
def test_a_key_file_may_begin_with_a_byte_order_mark(tmp_path: Path, kind: str) -> None:
    content = CK.encode() if kind == "ck" else encode_host_key(generate_host_key())
    assert load_host_key(marked(tmp_path / "key", content), ignore)


@pytest.mark.parametrize("marks", [("cert",), ("key",), ("cert", "key", "ca")])
def test_pem_files_of_tls_may_begin_with_a_byte_order_mark(
    tmp_path: Path, marks: tuple[str, ...]
) -> None:
    authority = Authority(tmp_path / "ca")
    paths = dict(zip(("cert", "key"), authority.issue("a"), strict=True), ca=authority.path)
    for name in marks:
        plain = tmp_path / "ca" / paths[name]
        marked(plain, plain.read_bytes())
    assert server_context(ServerTls(**paths)).get_ca_certs()
    assert client_context(ClientTls(**paths)).get_ca_certs()


def test_one_mark_is_taken_off_and_the_rest_is_the_content(tmp_path: Path) -> None:
    file = read_file(marked(tmp_path / "file", codecs.BOM_UTF8 + b"x"))
    assert (file.data, file.marked) == (codecs.BOM_UTF8 + b"x", True)


# ---- files that others could change


@pytest.mark.parametrize("mode", [0o602, 0o622, 0o666, 0o777])
def test_a_file_that_everybody_may_change_is_refused(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    with pytest.raises(UsageError, match=rf"changed by others .*: chmod go-w {secret}$"):
        read_file(str(secret), secret=True)
    assert read_file(str(secret)).data == b"secret"


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o644, 0o755])
def test_a_file_that_others_may_only_read_is_read(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    assert read_file(str(secret), secret=True).data == b"secret"


def test_a_file_that_a_group_may_change_is_refused_where_others_are_in_it(
    secret: Path, private_group: list[str]
) -> None:
    secret.chmod(0o660)
    private_group.append("bob")
    with pytest.raises(UsageError, match="chmod go-w"):
        read_file(str(secret), secret=True)


@pytest.mark.parametrize("members", [[], ["alice"]])
def test_a_group_that_is_its_users_alone_may_change_a_file(
    secret: Path, private_group: list[str], members: list[str]
) -> None:
    secret.chmod(0o660)
    private_group.extend(members)
    assert read_file(str(secret), secret=True).data == b"secret"


def test_a_group_without_a_name_is_one_of_others(
    secret: Path, private_group: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_number: int) -> None:
        raise KeyError

    secret.chmod(0o660)
    monkeypatch.setattr(grp, "getgrgid", unknown)
    with pytest.raises(UsageError, match="chmod go-w"):
        read_file(str(secret), secret=True)


def test_a_directory_in_which_others_can_replace_the_file_counts(
    secret: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(UsageError, match=rf"write to its directory: chmod go-w {tmp_path}$"):
        read_file(str(secret), secret=True)
    tmp_path.chmod(0o1777)  # as /tmp: only the owner can
    assert read_file(str(secret), secret=True).data == b"secret"


def test_both_directories_of_a_link_count(secret: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = elsewhere / "link"
    link.symlink_to(secret)
    assert read_file(str(link), secret=True).data == b"secret"
    elsewhere.chmod(0o777)
    with pytest.raises(UsageError, match=f"chmod go-w {elsewhere}$"):
        read_file(str(link), secret=True)


def test_a_pipe_has_nobody_else() -> None:
    end, other = os.pipe()
    os.write(other, b"alice:secret\nmore")
    try:
        assert read_credentials(f"/dev/fd/{end}")  # and the pipe is still open
    finally:
        os.close(end)
        os.close(other)


@pytest.mark.parametrize(
    ("read", "content", "said"),
    [
        (load_authfile, '{"a:b": [""]}', "the users file .* can be changed by others"),
        (read_credentials, "a:b", "the password file .* can be changed by others"),
        (lambda path: load_host_key(path, ignore), CK, "the key file .* can be changed by others"),
    ],
)
def test_each_kind_of_secret_file_is_refused_by_its_name(
    secret: Path, read: Callable[[str], object], content: str, said: str
) -> None:
    secret.write_text(content)
    assert read(str(secret))
    secret.chmod(0o606)
    with pytest.raises(UsageError, match=said):
        read(str(secret))


def test_the_key_of_a_certificate_is_a_secret_file_and_the_certificate_is_none(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path / "ca")
    cert, key = authority.issue("a")
    (tmp_path / cert).chmod(0o666)
    server_context(ServerTls(cert=cert, key=key))
    (tmp_path / key).chmod(0o666)
    for make in (
        lambda: server_context(ServerTls(cert=cert, key=key)),
        lambda: client_context(ClientTls(cert=cert, key=key)),
    ):
        with pytest.raises(UsageError, match=f"the key {key} can be changed by others"):
            make()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("gone", "gone: No such file"),
        (".", ": Is a directory"),
        ("a\0b", r"'a\\x00b' is not a path"),
    ],
)
@pytest.mark.parametrize(
    ("read", "name"),
    [
        (load_authfile, "the users file"),
        (read_credentials, "the password file"),
        (read_toml, "the configuration file"),
        (lambda path: server_context(ServerTls(cert=path, key=path), ignore), "the certificate"),
    ],
    ids=["users", "password", "config", "certificate"],
)
def test_a_file_that_cannot_be_read_is_named(
    read: Callable[[str], object], name: str, path: str, said: str
) -> None:
    with pytest.raises(UsageError, match=f"^cannot read {name}.*{said}"):
        read(path)
