"""`cotun_trio.net.acme`: the files that it is told to use."""

from __future__ import annotations

import codecs
import ssl
from pathlib import Path

import pytest

from cotun_trio.net.acme import Authority
from cotun_trio.settings import ServerAcme
from tests.support.certificates import Authority as Issuer


def authorities(path: str) -> tuple[Authority, str]:
    """Return an authority, and the file that it checks the certificate of its server by."""
    authority = Authority(ServerAcme(domains=("a.example",), ca=path))
    return authority, authority._authorities(path)


def test_a_file_of_authorities_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = Path(Issuer(tmp_path / "ca").path)
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    authority, bare = authorities(str(path))
    assert ssl.create_default_context(cafile=bare).get_ca_certs()
    del authority
    assert not Path(bare).exists()


@pytest.mark.parametrize("kind", ["plain", "missing", "a directory"])
def test_any_other_path_is_the_librarys(tmp_path: Path, kind: str) -> None:
    paths = {"plain": Issuer(tmp_path / "ca").path, "missing": "/no/file"}
    path = paths.get(kind, str(tmp_path))
    assert authorities(path)[1] == path
