"""Debian's packages in the image: what is downloaded is what the lock has, and says what to do."""

from __future__ import annotations

import hashlib
import http.server
import re
import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from scripts.packaging import debian
from scripts.packaging.debian import Package
from scripts.packaging.environment import UnusableError
from tests.support.debian_root import UNREACHED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = b"a package"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
GOOD = Package("part", "1:2.0-1", "amd64", DIGEST, "debian/pool/part.deb")


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give the URL of a mirror with one package; what is downloaded is kept elsewhere."""
    monkeypatch.setattr(debian, "KEPT", tmp_path / "kept")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == f"/{GOOD.place}"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(CONTENT if found else b"")

        def log_message(self, *_words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_package_is_downloaded_once(mirror: str) -> None:
    path = debian.download(GOOD, mirror)
    assert path.name == "part_1%3a2.0-1_amd64.deb"
    assert path.read_bytes() == CONTENT
    assert debian.download(GOOD, "http://127.0.0.1:1") == path
    path.write_bytes(b"damaged")
    assert debian.download(GOOD, mirror).read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_other_bytes_than_those_of_the_lock_are_refused(mirror: str) -> None:
    with pytest.raises(UnusableError, match=r"another part 1:2\.0-1 than the lock"):
        debian.download(GOOD._replace(digest="0" * 64), mirror)
    assert not debian.KEPT.exists()


def test_a_version_that_is_gone_is_a_reason_to_renew_the_lock(mirror: str) -> None:
    with pytest.raises(UnusableError, match=r"no part 1:2\.0-1 any more: say make image-lock"):
        debian.download(GOOD._replace(place="debian/pool/old.deb"), mirror)


def test_a_mirror_that_cannot_be_reached_is_said_with_the_reason(mirror: str) -> None:
    del mirror
    url = "http://127.0.0.1:1/debian/pool/part.deb"
    with pytest.raises(UnusableError, match=f"cannot download {re.escape(url)}: .*refused"):
        debian.download(GOOD, "http://127.0.0.1:1")


def test_both_architectures_have_the_same_packages_in_the_lock() -> None:
    amd64, arm64 = ({p.name: p for p in debian.locked(name)} for name in ("amd64", "arm64"))
    assert set(debian.PACKAGES) == amd64.keys() == arm64.keys()
    for package in (*amd64.values(), *arm64.values()):
        assert re.fullmatch("[0-9a-f]{64}", package.digest)
        assert re.match(r"debian(-security)?/pool/", package.place)


def test_without_debians_program_it_says_which_package_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(UnusableError, match="there is no dpkg-deb here"):
        debian.unpack(tmp_path / "part.deb", tmp_path)


@pytest.mark.slow
def test_what_is_no_package_is_an_error_with_its_name(tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("not installed: dpkg-deb")
    path = tmp_path / "part.deb"
    path.write_bytes(CONTENT)
    with pytest.raises(UnusableError, match=rf"dpkg-deb --field {re.escape(str(path))}:\n.*"):
        debian.control(path)


def test_the_lock_takes_what_apt_prints() -> None:
    printed = (
        "'http://m/debian/pool/main/z/zlib/zlib1g_1.2%2b3_arm64.deb' "
        f"zlib1g_1%3a1.2+3_arm64.deb 1234 SHA256:{DIGEST}"
    )
    place = "debian/pool/main/z/zlib/zlib1g_1.2%2b3_arm64.deb"
    found = debian._package(printed, "http://m")
    assert found == Package("zlib1g", "1:1.2+3", "arm64", DIGEST, place)


@pytest.mark.skipif(
    shutil.which("apt-get") is None or not debian.KEYS.exists(),
    reason="it takes Debian's apt-get, and the keys of Debian",
)
@pytest.mark.slow
def test_apt_finds_the_newest_ones_with_files_of_its_own(tmp_path: Path) -> None:
    try:
        found = debian.newest("arm64", tmp_path)
    except UnusableError as error:
        if not UNREACHED.search(str(error)):
            raise
        pytest.skip(f"Debian cannot be reached: {error}")
    assert {package.name for package in found} == set(debian.PACKAGES)
    assert {package.architecture for package in found} == {"arm64", "all"}
    for package in found:  # and each line can be read again
        assert Package(*" ".join(package).split()) == package


def test_the_lock_is_made_again_or_only_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "image.lock"
    new = GOOD._replace(version="1:2.0-2")
    newest = {"amd64": [GOOD], "arm64": [GOOD._replace(architecture="arm64")]}
    monkeypatch.setattr(debian, "LOCK", lock)
    monkeypatch.setattr(debian, "newest", lambda architecture, _directory: newest[architecture])
    assert debian.main([]) == 0
    assert capsys.readouterr().out == "part 1:2.0-1 (amd64)\npart 1:2.0-1 (arm64)\n"
    assert debian.locked("amd64") == [GOOD]
    assert debian.main(["--check"]) == 0
    newest["amd64"] = [new]
    assert debian.main(["--check"]) == 1
    assert capsys.readouterr().out == "part 1:2.0-2 (amd64)\n"
    assert debian.locked("amd64") == [GOOD]
    assert debian.main([]) == 0
    assert debian.locked("amd64") == [new]


def test_where_apt_finds_nothing_the_lock_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(debian, "KEYS", tmp_path / "keys.gpg")
    before = debian.LOCK.read_text()
    assert debian.main([]) == 1
    assert "it is in the package debian-archive-keyring" in capsys.readouterr().err
    assert debian.LOCK.read_text() == before
