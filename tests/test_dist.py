"""What `make dist` makes: it is built here from a copy of the source, and run as users do; and then
from the sdist, to see that the same bytes come out."""

from __future__ import annotations

import ast
import http.server
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from scripts import single_file_main
from scripts.packaging import environment, lock, python_packages
from scripts.packaging.reproducible import sha256
from tests.support.admin import ask
from tests.support.builds import ELSEWHERE, LIMIT, PIP, copy_of_source, do, workshop
from tests.support.programs import running, url_of
from tests.support.targets import LOOPBACK, connect, echo, echoes, listening

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.builds import Workshop

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
VERSION = python_packages.version()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Give the tools and wheels of this test run."""
    return workshop(tmp_path_factory)


@pytest.fixture(scope="module")
def source(shop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a copy of the source in which `make dist` has been the first command."""
    copy = copy_of_source(tmp_path_factory.mktemp("source") / "cotun-trio")
    shop.hand_on_wheels(copy)
    do("make", "dist", shop.tools, cwd=copy)
    return copy


@pytest.fixture
def empty_venv(tmp_path: Path) -> Path:
    """Give an environment that has nothing in it."""
    path = tmp_path / "venv"
    do(sys.executable, "-m", "venv", "--without-pip", str(path))
    return path


@pytest.fixture
def with_the_wheel(source: Path, empty_venv: Path) -> Path:
    """Give the program in an environment into which pip has installed the wheel.

    It mostly waits for the package index, and so is no part of a test with a time limit.
    """
    wheel = only(source / "dist", "*.whl")
    do(*PIP, f"--python={empty_venv}", "install", "--quiet", str(wheel))
    return empty_venv / "bin" / "cotun-trio"


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """Give an empty directory."""
    path = tmp_path / "nowhere"
    path.mkdir()
    return path


def only(directory: Path, pattern: str) -> Path:
    """Return the one file in `directory` that has such a name."""
    (path,) = directory.glob(pattern)
    return path


async def carries(command: Sequence[str], cwd: Path, env: dict[str, str]) -> None:
    """Check that a program says its version, reads a users file, is a server and a client that
    reach each other, and has the files of the page."""
    users = cwd.parent / "users.json"
    users.write_text('{"alice:secret": ["^a:1$"]}')
    users.chmod(0o600)
    words = ("check-auth", "--authfile", str(users), "alice", "a:1")
    async with running(*command, *words, cwd=cwd, env=env) as program:
        assert await program.wait() == 0
    async with running(*command, "--version", cwd=cwd, env=env) as program:
        assert await program.wait() == 0
        assert program.find(r"^cotun-trio \d+\.\d+\.\d+$")
    place = f"unix:{cwd.parent / 'admin.sock'}"
    listen = ("--host", LOOPBACK, "--port", "0", "--auth", "alice:secret", "--admin-listen", place)
    async with (
        listening(echo) as target,
        running(*command, "server", *listen, cwd=cwd, env=env) as server,
    ):
        url = await url_of(server)
        for path in ("/", "/page.css", "/page.js"):
            assert (await ask(place, path)).status == 200
        remote = f"{LOOPBACK}:0:{target}"
        words = ("client", "--auth", "alice:secret", url, remote)
        async with running(*command, *words, cwd=cwd, env=env) as client:
            local = (await client.wait_for(r"Listening on (\S+) for"))[1]
            async with await connect(local) as stream:
                assert await echoes(stream)
            assert await client.stop() == 0
        assert await server.stop() == 0


async def test_the_wheel_is_all_that_an_empty_environment_needs(
    with_the_wheel: Path, nowhere: Path
) -> None:
    await carries([str(with_the_wheel)], nowhere, {})


async def test_the_single_file_runs_where_nothing_is_installed(
    source: Path, empty_venv: Path, nowhere: Path, tmp_path: Path
) -> None:
    single = source / "dist" / "cotun-trio.pyz"
    assert os.access(single, os.X_OK)
    minor = "{}.{}".format(*sys.version_info)
    assert single.read_bytes().startswith(f"#!/usr/bin/env python{minor}\n".encode())
    cache = tmp_path / "cache"
    command = [str(empty_venv / "bin" / "python"), str(single)]
    await carries(command, nowhere, {"SHIV_ROOT": str(cache)})
    assert list(cache.iterdir())
    assert not list(nowhere.iterdir())


def run_single(*command: str, **environment: str) -> str:
    """Run the single file where it cannot run, and return the line that it says."""
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_the_single_file_says_which_python_it_was_built_for(source: Path, tmp_path: Path) -> None:
    single = source / "dist" / "cotun-trio.pyz"
    other = tmp_path / "other.pyz"
    here = single_file_main.running()
    with zipfile.ZipFile(single) as old, zipfile.ZipFile(other, "w") as new:
        for info in old.infolist():
            if info.filename == "__main__.py":  # as if it had been built for another one
                text = old.read(info).decode()
                assert text.count(here) == 1
                new.writestr(info, text.replace(here, "Python 3.99 on Linux z80"))
    line = run_single(sys.executable, str(other))
    assert line.startswith(
        f"cotun-trio: this file was built for Python 3.99 on Linux z80, and this is {here}: "
    )


def test_the_single_file_says_when_there_is_no_directory_to_look_for(source: Path) -> None:
    single = source / "dist" / "cotun-trio.pyz"
    root = "/" + "x" * 300  # looking for it is an error, as with a home that is another user's
    line = run_single(sys.executable, str(single), "--version", SHIV_ROOT=root)
    assert line.startswith(f"cotun-trio: this file is unpacked into {root}")
    assert line.endswith("(File name too long): set SHIV_ROOT to a directory that can")


def test_the_single_file_says_when_its_directory_cannot_be_written(
    source: Path, tmp_path: Path
) -> None:
    single = source / "dist" / "cotun-trio.pyz"
    (tmp_path / "file").touch()
    root = tmp_path / "file" / "root"  # in a file, there is no directory, not even for root
    line = run_single(sys.executable, str(single), "--version", SHIV_ROOT=str(root))
    assert line.startswith(f"cotun-trio: this file is unpacked into {root}/cotun-trio.pyz_")
    assert line.endswith("(Not a directory): set SHIV_ROOT to a directory that can")


def test_the_beginning_of_the_single_file_can_be_read_by_old_pythons() -> None:
    text = Path(single_file_main.__file__).read_text()
    ast.parse(text, feature_version=(3, 6))


def test_the_sdist_has_all_that_it_takes_to_build_and_test(source: Path) -> None:
    with tarfile.open(only(source / "dist", "*.tar.gz")) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    here = {
        str(path.relative_to(ROOT))
        for place in ("cotun_trio", "tests", "scripts", "bench")
        for path in (ROOT / place).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert here | {"Makefile", "README.rst", "LICENSE", "pyproject.toml", ".ci/run"} <= names
    assert ".github/workflows/publish.yml" in names


ARTEFACTS = ("cotun-trio.pyz", "cotun_trio-{}-py3-none-any.whl", "cotun_trio-{}.tar.gz")
each_artefact = pytest.mark.parametrize("artefact", ARTEFACTS)


def test_another_build_elsewhere_gives_the_same_bytes(
    source: Path, shop: Workshop, tmp_path: Path
) -> None:
    with tarfile.open(only(source / "dist", "*.tar.gz")) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (copy,) = tmp_path.iterdir()
    shop.hand_on_wheels(copy)
    do("make", "dist", shop.tools, cwd=copy, umask=0o027, **ELSEWHERE)
    first, second = (
        {path.name: path.read_bytes() for path in directory.iterdir()}
        for directory in (source / "dist", copy / "dist")
    )
    assert len(first) == 2 * len(ARTEFACTS)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


@each_artefact
def test_what_is_in_an_artefact_is_told_as_cyclonedx_has_it(source: Path, artefact: str) -> None:
    path = source / "dist" / artefact.format(VERSION)
    text = path.with_name(f"{path.name}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    told = json.loads(text)["metadata"]["component"]
    assert (told["name"], told["version"]) == ("cotun-trio", VERSION)
    assert told["hashes"] == [{"alg": "SHA-256", "content": sha256(path)}]


def test_what_the_single_file_carries_is_what_the_lock_has(source: Path) -> None:
    single = source / "dist" / "cotun-trio.pyz"
    target = environment.Target.here()
    wanted = {pin.name: pin for pin in lock.pins() if pin.is_for(target.markers())}
    told = json.loads(single.with_name(f"{single.name}.cdx.json").read_text())["components"]
    versions = {component["name"]: component["version"] for component in told}
    assert versions.pop("cotun-trio") == VERSION
    assert versions == {name: pin.version for name, pin in wanted.items()}
    for component in told:
        if component["name"] != "cotun-trio":
            (digest,) = component["hashes"]
            assert digest["content"] in wanted[component["name"]].hashes
    with zipfile.ZipFile(single) as file:
        folders = {name.split("/")[1] for name in file.namelist() if ".dist-info/" in name}
    assert {re.sub("[._]+", "-", folder.partition("-")[0]).lower() for folder in folders} == {
        "cotun-trio",
        *versions,
    }


def test_another_machine_gets_an_environment_with_what_is_compiled_for_it(
    source: Path, shop: Workshop, tmp_path: Path
) -> None:
    wheel = only(source / "dist", "*.whl")
    program = (
        "import sys; from pathlib import Path; from scripts.packaging import environment; "
        "environment.install(Path(sys.argv[1]), wheel=Path(sys.argv[2]), python='3.11', "
        "machine=sys.argv[3])"
    )
    machine = "aarch64"
    do(shop.python, "-c", program, str(tmp_path), str(wheel), machine, cwd=source)
    modules = list(tmp_path.rglob("*.so"))
    assert modules
    for path in modules:
        head = path.read_bytes()[:20]
        assert head[:4] == b"\x7fELF"
        assert int.from_bytes(head[18:], "little") == 183, path  # EM_AARCH64


class KnownVulnerabilities(http.server.BaseHTTPRequestHandler):
    """What OSV answers, where only h11 has one."""

    asked: ClassVar[set[tuple[str, str]]] = set()

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = query["package"]["name"]
        self.asked.add((name, query["version"]))
        answer = json.dumps({"vulns": [VULNERABILITY]} if name == "h11" else {})
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *args: object) -> None:
        pass


VULNERABILITY = {
    "id": "GHSA-xxxx",
    "aliases": ["CVE-2999-1"],
    "modified": "2999-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "h11", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999"}]}],
        }
    ],
}


def test_an_audit_asks_about_each_package_of_the_lock(source: Path, shop: Workshop) -> None:
    with http.server.ThreadingHTTPServer((LOOPBACK, 0), KnownVulnerabilities) as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        try:
            url = f"http://{LOOPBACK}:{service.server_port}/v1/query"
            done = audit(source, shop, url)
        finally:
            service.shutdown()
            thread.join()
    assert done.returncode == 1
    version = dict(KnownVulnerabilities.asked)["h11"]
    assert done.stderr.splitlines() == [
        "requirements.lock has not passed:",
        f"  h11 {version}: CVE-2999-1, GHSA-xxxx; fixed in 999",
    ]
    target = environment.Target.here()
    pins = [pin for pin in lock.pins() if pin.is_for(target.markers())]
    assert {(pin.name, pin.version) for pin in pins} == KnownVulnerabilities.asked


def test_an_audit_that_cannot_ask_does_not_pass(source: Path, shop: Workshop) -> None:
    done = audit(source, shop, f"http://{LOOPBACK}:1/v1/query")
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first == "requirements.lock has not passed:"
    assert second.startswith("  the service could not be asked: ")
    assert "refused" in second


def audit(source: Path, shop: Workshop, url: str) -> subprocess.CompletedProcess[str]:
    """Ask the service at `url` for what is known."""
    words = ("--vulnerability-service=osv", f"--osv-url={url}")
    return subprocess.run(
        [shop.python, "-m", "scripts.packaging.audit", *words],
        cwd=source,
        env={**os.environ, "NO_PROXY": LOOPBACK},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


def test_clean_removes_it_all(source: Path) -> None:
    do("make", "clean", cwd=source)
    assert not (source / "dist").exists()
    assert not (source / "build").exists()
