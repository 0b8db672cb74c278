"""What `make packages` makes, from a copy of the source.

It is installed, used, upgraded and removed in an empty Debian system, with systemd as in a machine.
"""

from __future__ import annotations

import contextlib
import gzip
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from scripts.packaging import python_packages, sbom, system_packages
from scripts.packaging.reproducible import ROOT
from tests.support.builds import ELSEWHERE, copy_of_source, do, workshop
from tests.support.debian_root import finished, in_the_making, started
from tests.support.peers import needs

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.support.builds import Workshop
    from tests.support.debian_root import Root

pytestmark = pytest.mark.slow

DEBIAN = (3, 11)
"""The Python of the system that they are installed in."""
LATER = "99.0.0"
"""The version of an upgrade."""
GONE = "usr/lib/cotun-trio/cotun_trio/pytest_plugin.py"
"""A file that it has not."""
SCRIPTS = ROOT / "scripts" / "packaging" / "system"
NOISE = re.compile(
    "var/(log|cache/ldconfig|lib/(systemd|private|apt|dpkg))/|etc/(machine-id|[a-z]+-)$|root/"
)
"""What a system writes while it runs, and what the test has put there."""
SERVER = "cotun-trio-server.service"
SOCKET = "cotun-trio-server.socket"
OFFICE = "cotun-trio-client@office.service"
DIRECTORY = "drwxr-x--- root cotun-trio\n"
"""What stat says about /etc/cotun-trio."""
USERS = '{"%s": ["^127\\\\.0\\\\.0\\\\.1:8080$"]}\n'
CLIENT = """\
[client]
server = ["http://127.0.0.1:8080"]
remote = ["127.0.0.1:5000:127.0.0.1:8080"]
"""
FETCH = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:5000/health').read())"


@attrs.frozen
class Built:
    """A copy of the source, and its packages."""

    source: Path
    shop: Workshop
    deb: Path
    rpm: Path


def packages_of(source: Path, shop: Workshop) -> Built:
    """Return the packages that have been made there."""
    (deb,) = (source / "dist").glob(f"*_{python_packages.version()}_*.deb")
    (rpm,) = (source / "dist").glob(f"*-{python_packages.version()}-*.rpm")
    return Built(source, shop, deb, rpm)


@pytest.fixture(scope="module")
def half_made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[object, Path]]:
    """Give an empty system that is in the making meanwhile."""
    if sys.version_info[:2] != DEBIAN:
        pytest.skip("Debian 12 has Python 3.11, and the packages would be for this one")
    path = tmp_path_factory.mktemp("debian") / "root"
    with in_the_making(path) as process:
        yield process, path


@pytest.fixture(scope="module")
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Give a copy of the source in which `make packages` has been the first command."""
    if platform.machine() != system_packages.MACHINE:
        pytest.skip(f"the packages are for {system_packages.MACHINE}")
    with contextlib.suppress(pytest.skip.Exception):
        request.getfixturevalue("half_made")  # meanwhile
    shop = workshop(tmp_path_factory)
    source = copy_of_source(tmp_path_factory.mktemp("source") / "cotun-trio")
    shop.hand_on_wheels(source)
    do("make", "packages", shop.tools, cwd=source)
    return packages_of(source, shop)


@pytest.fixture(scope="module")
def later(built: Built) -> Built:
    """Give packages of a later version, which have one module less."""
    stage = built.source / "build" / "packages"
    (metadata,) = stage.glob("usr/lib/cotun-trio/cotun_trio-*.dist-info/METADATA")
    text = metadata.read_text()
    metadata.write_text(re.sub("^Version: .*", f"Version: {LATER}", text, flags=re.MULTILINE))
    (stage / GONE).unlink()
    script = (
        "from scripts.packaging.system_packages import KINDS, pack\n"
        f"print(*(pack(kind, {LATER!r}) for kind in KINDS), sep='\\n')"
    )
    deb, rpm = do(built.shop.python, "-c", script, cwd=built.source).split("\n")[:2]
    return Built(built.source, built.shop, Path(deb), Path(rpm))


@pytest.fixture(scope="module")
def debian(half_made: tuple[subprocess.Popen[str], Path], built: Built) -> Root:
    """Give the empty system, with the deb in /root."""
    root = finished(*half_made)
    shutil.copy(built.deb, root.file("root/cotun-trio.deb"))
    return root


@pytest.fixture(scope="module")
def with_systemd(debian: Root) -> Root:
    """Give the system with systemd, with all that the package needs, and without the package."""
    needed = debian.run("dpkg-deb", "--field", "/root/cotun-trio.deb", "Depends")
    names = re.findall(r"([a-z0-9.+-]+)(?: \(.*?\))?(?:, |$)", needed)
    words = ("--yes", "--no-install-recommends", "systemd", "dbus", *names)
    debian.run("apt-get", "install", *words)
    return debian


# ---- the files


def test_the_same_bytes_come_out_elsewhere(built: Built, tmp_path: Path) -> None:
    source = copy_of_source(tmp_path / "a" / "longer way" / "to it")
    built.shop.hand_on_wheels(source)
    home = {**ELSEWHERE, "HOME": str(tmp_path)}
    do("make", "packages", built.shop.tools, cwd=source, umask=0o077, **home)
    again = packages_of(source, built.shop)
    for one, other in ((built.deb, again.deb), (built.rpm, again.rpm)):
        assert one.read_bytes() == other.read_bytes()
        told = [path.with_name(path.name + sbom.SUFFIX) for path in (one, other)]
        assert told[0].read_bytes() == told[1].read_bytes()


@needs("lintian")
@pytest.mark.interop
def test_lintian_finds_nothing(built: Built, tmp_path: Path) -> None:
    # Without the modules: it takes half a minute to look at them, and they are not our own files.
    files = tmp_path / "files"
    do("dpkg-deb", "--raw-extract", str(built.deb), str(files))
    shutil.rmtree(files / "usr/lib/cotun-trio")
    (files / "DEBIAN/md5sums").unlink()
    exceptions = files / "usr/share/lintian/overrides/cotun-trio"
    lines = exceptions.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not re.search("usr/lib/cotun-trio/|pycache", line)]
    exceptions.write_text("".join(kept))
    do("dpkg-deb", "--build", str(files), str(tmp_path / "small.deb"))
    words = ("--allow-root", "--fail-on=error,warning")
    assert do("lintian", *words, str(tmp_path / "small.deb")) == ""


@needs("rpm")
@pytest.mark.interop
def test_both_have_the_same_files_where_each_system_has_them(built: Built) -> None:
    listed = do("dpkg-deb", "--contents", str(built.deb)).splitlines()
    deb = {line.split()[-1].removeprefix(".") for line in listed if not line.startswith("d")}
    assert "digests OK" in do("rpm", "--checksig", str(built.rpm))
    listed = do(
        "rpm", "-qp", "--queryformat", "[%{FILEMODES:perms} %{FILENAMES}\n]", str(built.rpm)
    )
    rpm = {line.split(" ", 1)[1] for line in listed.splitlines() if not line.startswith("d")}
    assert deb - rpm == {
        "/usr/share/doc/cotun-trio/changelog.gz",
        "/usr/share/doc/cotun-trio/copyright",
        "/usr/share/lintian/overrides/cotun-trio",
        "/usr/share/zsh/vendor-completions/_cotun-trio",
    }
    assert rpm - deb == {
        "/usr/share/licenses/cotun-trio/copyright",
        "/usr/share/zsh/site-functions/_cotun-trio",
    }


@pytest.mark.parametrize("name", ["rpm/pre", "rpm/post", "rpm/preun", "rpm/postun"])
def test_the_scripts_of_the_rpm_can_be_read_by_a_shell(name: str) -> None:
    assert do("sh", "-n", str(SCRIPTS / name)) == ""


def test_what_packages_cannot_be_made_on_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(system_packages.platform, "machine", lambda: "riscv64")
    assert system_packages.main() == 1
    said = capsys.readouterr().err
    assert said == "packages can be made on x86_64 only, and this is riscv64\n"


# ---- an empty system


@pytest.mark.interop
def test_in_an_empty_system_apt_installs_all_that_it_needs(debian: Root, built: Built) -> None:
    before = debian.files()
    debian.run("apt-get", "install", "--yes", "/root/cotun-trio.deb")
    version = python_packages.version()
    assert debian.run("cotun-trio", "--version") == f"cotun-trio {version}\n"
    # Neither the user's modules nor the directory it runs in have a say.
    shadow = "cd /tmp; echo 'raise OSError' >trio.py; PYTHONPATH=/tmp cotun-trio --version"
    assert debian.shell(shadow) == f"cotun-trio {version}\n"
    assert debian.run("id", "-gn", "cotun-trio") == "cotun-trio\n"
    assert debian.run("stat", "-c", "%A %U %G", "/etc/cotun-trio") == DIRECTORY
    loaded = "source /usr/share/bash-completion/completions/cotun-trio; complete -p cotun-trio"
    assert debian.shell(loaded).endswith(" cotun-trio\n")
    page = debian.file("usr/share/man/man1/cotun-trio-server.1.gz").read_bytes()
    assert b"\n.SH SYNOPSIS\n" in gzip.decompress(page)
    # No library has to be there for the compiled modules but those of the packages it asks for.
    libraries = debian.shell("find /usr/lib/cotun-trio -name '*.so*' | xargs ldd")
    assert "not found" not in libraries
    used = {Path(found).name for found in re.findall(r"=> (/\S+)", libraries)}
    said = debian.run("dpkg", "-S", *(f"*/{name}" for name in sorted(used)))
    assert set(re.findall("^([^:]+):", said, re.MULTILINE)) <= {"libc6", "libgcc-s1", "libstdc++6"}
    # All is compiled: root's use of it has written nothing.
    listed = set(debian.run("dpkg", "-L", "cotun-trio").split("\n"))
    under = {f"/{name}" for name in debian.files() if name.startswith("usr/lib/cotun-trio/")}
    assert under <= listed
    debian.run("apt-get", "purge", "--yes", "cotun-trio")
    assert not [name for name in debian.files() - before if "cotun" in name]
    assert "cotun-trio" not in debian.file("/etc/passwd").read_text()


# ---- a system with systemd


@pytest.mark.interop
def test_with_systemd_it_is_used_upgraded_and_removed(
    with_systemd: Root, later: Built, tmp_path: Path
) -> None:
    shutil.copy(later.deb, with_systemd.file("root/later.deb"))
    before = with_systemd.files()
    with started(with_systemd, tmp_path) as machine:
        is_installed_and_not_started(machine)
        is_used_for_the_first_time(machine)
        reads_its_files_again(machine)
        listens_by_its_socket(machine)
        keeps_what_is_edited_in_an_upgrade(machine)
        goes_on_when_an_upgrade_fails(machine)
        leaves_what_is_configured_when_it_is_removed(machine)
        leaves_nothing_after_a_purge(machine)
    after = with_systemd.files()
    assert [name for name in sorted(after - before) if not NOISE.match(name)] == []
    assert [name for name in sorted(before - after) if not NOISE.match(name)] == []


def state(machine: Root, unit: str) -> tuple[str, str]:
    """Return whether a unit is active, and whether it is enabled, in systemd's words."""
    return (
        machine.outcome("systemctl", "is-active", unit).stdout.strip(),
        machine.outcome("systemctl", "is-enabled", unit).stdout.strip(),
    )


def process_of(machine: Root, unit: str) -> str:
    """Return the number of the main process of a unit."""
    return machine.run("systemctl", "show", "--property=MainPID", "--value", unit).strip()


def is_installed_and_not_started(machine: Root) -> None:
    machine.run("apt-get", "install", "--yes", "/root/cotun-trio.deb")
    assert state(machine, SERVER) == ("inactive", "disabled")
    assert state(machine, SOCKET) == ("inactive", "disabled")
    assert not machine.file("etc/cotun-trio/host.key").exists()
    units = "/lib/systemd/system/cotun-trio-*.s*"
    assert machine.shell(f"systemd-analyze verify --man=no {units}") == ""
    # Without users, it is no open server: it does not start.
    assert machine.outcome("systemctl", "start", SERVER).returncode != 0
    log = machine.run("journalctl", "--unit", SERVER, "--output=cat")
    assert "cannot read the users file /etc/cotun-trio/users.json: No such file" in log
    assert "Scheduled restart" not in log


def is_used_for_the_first_time(machine: Root) -> None:
    key = machine.file("etc/cotun-trio/host.key")
    kept = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    user = machine.run("cotun-trio", "hash-password", "alice", given="secret\n").strip()
    machine.file("etc/cotun-trio/users.json").write_text(USERS % user)
    machine.run("systemctl", "enable", "--now", SERVER)
    assert key.read_bytes() == kept
    assert "server, ready" in machine.run("cotun-trio", "status")

    machine.file("etc/cotun-trio/office.toml").write_text(CLIENT)
    machine.file("etc/cotun-trio/office.auth").write_text("alice:secret\n")
    machine.file("etc/cotun-trio/office.auth").chmod(0o600)
    machine.run("systemctl", "enable", "--now", OFFICE)  # it is there when it is connected
    assert machine.run("python3.11", "-c", FETCH) == "b'OK\\n'\n"
    for unit in (SERVER, OFFICE):
        place = f"/proc/{process_of(machine, unit)}"
        assert machine.run("stat", "-c", "%U", place) == "cotun-trio\n"


def reads_its_files_again(machine: Root) -> None:
    for unit in (SERVER, OFFICE):
        number = process_of(machine, unit)
        machine.run("systemctl", "reload", unit)
        assert process_of(machine, unit) == number


def listens_by_its_socket(machine: Root) -> None:
    machine.run("systemctl", "stop", SERVER)
    machine.run("systemctl", "enable", "--now", SOCKET)
    # The client comes back, or it has been told to: that starts the server.
    machine.run("systemctl", "restart", OFFICE)
    assert machine.run("python3.11", "-c", FETCH) == "b'OK\\n'\n"
    assert state(machine, SERVER) == ("active", "enabled")


def keeps_what_is_edited_in_an_upgrade(machine: Root) -> None:
    config = machine.file("etc/cotun-trio/server.toml")
    edited = config.read_text().replace("#socks5 = true", "socks5 = true\nworkers = 2")
    config.write_text(edited)
    units = (SERVER, OFFICE)
    numbers = [process_of(machine, unit) for unit in units]
    machine.run("apt-get", "install", "--yes", "/root/later.deb")  # which asks nothing
    assert config.read_text() == edited
    assert machine.run("cotun-trio", "--version") == f"cotun-trio {LATER}\n"
    assert not machine.file(GONE).exists()
    for unit, number in zip(units, numbers, strict=True):
        machine.run("systemctl", "start", unit)  # ends when a restart has ended
        assert state(machine, unit) == ("active", "enabled")
        assert process_of(machine, unit) != number
    assert state(machine, SOCKET) == ("active", "enabled")
    assert machine.run("python3.11", "-c", FETCH) == "b'OK\\n'\n"
    processes = machine.run("find", "/proc", "-maxdepth", "1", "-user", "cotun-trio")
    assert len(processes.split()) == 4  # the client, the server's first process, and two workers
    assert machine.run("stat", "-c", "%A %U %G", "/etc/cotun-trio") == DIRECTORY
    assert f"cotun-trio {LATER} server, ready" in machine.run("cotun-trio", "status")


def goes_on_when_an_upgrade_fails(machine: Root) -> None:
    machine.shell(
        "mkdir -p /root/bad/DEBIAN; cd /root/bad/DEBIAN\n"
        "printf '#!/bin/sh\\nexit 1\\n' >preinst; chmod 755 preinst\n"
        "printf 'Package: cotun-trio\\nVersion: 100\\nArchitecture: amd64\\n' >control\n"
        "printf 'Maintainer: a <a@example.org>\\nDescription: a\\n' >>control\n"
        "dpkg-deb --build /root/bad"
    )
    number = process_of(machine, OFFICE)
    # So that the client cannot connect when it restarts.
    machine.run("systemctl", "stop", SOCKET, SERVER)
    assert machine.outcome("dpkg", "--install", "/root/bad.deb").returncode == 1
    assert machine.run("dpkg-query", "-W", "-f", "${Status} ${Version}", "cotun-trio") == (
        f"install ok installed {LATER}"
    )
    machine.run("systemctl", "start", SOCKET, SERVER, OFFICE)
    assert process_of(machine, OFFICE) != number
    assert f"cotun-trio {LATER} server, ready" in machine.run("cotun-trio", "status")


def leaves_what_is_configured_when_it_is_removed(machine: Root) -> None:
    places = ("server.toml", "users.json", "host.key", "office.toml", "office.auth")
    contents = [machine.file(f"etc/cotun-trio/{name}").read_bytes() for name in places]
    machine.run("apt-get", "remove", "--yes", "cotun-trio")
    assert machine.run("find", "/proc", "-maxdepth", "1", "-user", "cotun-trio") == ""
    assert [state(machine, unit)[0] for unit in (SERVER, SOCKET, OFFICE)] == ["inactive"] * 3
    assert not machine.file("usr/bin/cotun-trio").exists()
    assert not machine.file("usr/lib/cotun-trio").exists()
    left = [machine.file(f"etc/cotun-trio/{name}").read_bytes() for name in places]
    assert left == contents


def leaves_nothing_after_a_purge(machine: Root) -> None:
    machine.run("apt-get", "purge", "--yes", "cotun-trio")
    assert machine.outcome("id", "cotun-trio").returncode == 1


# ---- the rpm


@needs("rpm")
@pytest.mark.interop
def test_rpm_installs_it_upgrades_it_and_removes_it(
    with_systemd: Root, built: Built, later: Built
) -> None:
    # Debian's rpm knows nothing of the packages there, which are Debian's.
    rpm = ("rpm", f"--root={with_systemd.path}", "--nodeps")
    do(*rpm, "--install", str(built.rpm))
    assert do(*rpm, "--verify", "cotun-trio") == ""
    assert with_systemd.run("stat", "-c", "%A %U %G", "/etc/cotun-trio") == DIRECTORY
    version = python_packages.version()
    assert with_systemd.run("cotun-trio", "--version") == f"cotun-trio {version}\n"
    config = with_systemd.file("etc/cotun-trio/server.toml")
    edited = config.read_text().replace("#socks5 = true", "socks5 = true")
    config.write_text(edited)
    do(*rpm, "--upgrade", str(later.rpm))
    assert with_systemd.run("cotun-trio", "--version") == f"cotun-trio {LATER}\n"
    assert config.read_text() == edited
    assert not with_systemd.file(GONE).exists()
    do(*rpm, "--erase", "cotun-trio")
    assert [path.name for path in config.parent.iterdir()] == ["server.toml.rpmsave"]
    shutil.rmtree(config.parent)
    left = [name for name in with_systemd.files() if "cotun" in name]
    assert [name for name in left if not name.startswith(("root/", "var/"))] == []
