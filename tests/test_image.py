"""The OCI image: it is built here from a copy of the source, and containers of it are run with a
root that cannot be written, by what this machine has for that."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from scripts.packaging import debian, python_packages
from scripts.packaging.reproducible import sha256
from scripts.peers import find
from tests.support.builds import ELSEWHERE, LIMIT, begin, copy_of_source, workshop
from tests.support.first_process import children_of
from tests.support.image import RUNTIMES, Image, blob
from tests.support.peers import CHISEL_MISSING
from tests.support.programs import (
    PATIENCE,
    READY,
    chisel_client,
    chisel_server,
    ended,
    find_chisel,
    our_client,
    running,
    url_of,
)
from tests.support.sockets import until
from tests.support.targets import LOOPBACK, connect, echo, echoes, listening

if TYPE_CHECKING:
    from tests.support.image import Runtime

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
VERSION = python_packages.version()
ARCHIVE = f"cotun-trio-{VERSION}-amd64.oci.tar"
USER = 65532


def see_to_the_end(making: subprocess.Popen[str]) -> None:
    """Wait until it is made, or skip where something of it cannot be downloaded."""
    with ended(making):
        said, _ = making.communicate(timeout=LIMIT)
    gone = re.search("^(cannot download .*|Debian has no .* any more.*)$", said, re.MULTILINE)
    if gone:
        pytest.skip(gone[1])
    assert making.returncode == 0, said


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Give two copies of the source in which the image has been made: elsewhere, and otherwise; at
    the same time, where nothing has to be downloaded."""
    if find("dpkg-deb") is None:
        pytest.skip("not installed: dpkg-deb")
    shop = workshop(tmp_path_factory)
    copies = [
        copy_of_source(tmp_path_factory.mktemp(name) / "cotun-trio")
        for name in ("source", "elsewhere")
    ]
    for copy in copies:
        shop.hand_on_wheels(copy)
    words = ("image", shop.tools)
    kept = ROOT / "build" / "debian"  # what this source has downloaded before
    at_once = kept.is_dir()
    if at_once:
        shutil.copytree(kept, copies[0] / "build" / "debian")
    first = begin("make", *words, cwd=copies[0])
    with ended(first):
        if not at_once:
            see_to_the_end(first)
            kept = copies[0] / "build" / "debian"
        shutil.copytree(kept, copies[1] / "build" / "debian")
        see_to_the_end(begin("make", *words, cwd=copies[1], umask=0o027, **ELSEWHERE))
        if at_once:
            see_to_the_end(first)
    return copies


@pytest.fixture(scope="module")
def archive(builds: list[Path]) -> Path:
    """Give the image as it is made."""
    return builds[0] / "dist" / ARCHIVE


@pytest.fixture(scope="module")
def image(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Give the image, unpacked."""
    directory = tmp_path_factory.mktemp("image")
    for path in (directory, *directory.parents[:2]):
        path.chmod(0o755)  # a container's user has to get there
    return Image.unpack(archive, directory)


def make_runtime(kind: type[Runtime], image: Image, directory: Path) -> Runtime:
    """Return a way to run containers, or skip where it does not work."""
    if lacking := [name for name in kind.needs if find(name) is None]:
        pytest.skip(f"not installed: {', '.join(lacking)}")
    if why := refusal(kind, image):
        pytest.skip(f"it runs no containers here: {why}")
    return kind(image, directory)


@pytest.fixture(params=RUNTIMES, ids=lambda kind: kind.__name__)
def each_runtime(request: pytest.FixtureRequest, image: Image, tmp_path: Path) -> Runtime:
    """Give each way to run containers that works here."""
    return make_runtime(request.param, image, tmp_path)


@pytest.fixture
def runtime(image: Image, tmp_path: Path) -> Runtime:
    """Give the first way to run containers that works here."""
    there = [kind for kind in RUNTIMES if all(map(find, kind.needs)) and not refusal(kind, image)]
    return make_runtime((there or RUNTIMES)[0], image, tmp_path)


@functools.cache
def refusal(kind: type[Runtime], image: Image) -> str | None:
    """Return why there are no containers here by a runtime; None where there are.

    It is asked to run nothing of the image but its interpreter.
    """
    with tempfile.TemporaryDirectory() as directory:
        command = kind(image, Path(directory)).command("-c", "", program="python3.11")
        done = subprocess.run(command.words, capture_output=True, text=True, check=False)
    return (done.stderr.strip() or str(done.returncode)) if done.returncode else None


def shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


# ---- what is in it


def test_containers_begin_with_the_program_as_nobody_in_particular(image: Image) -> None:
    settings = image.config["config"]
    assert settings["Entrypoint"] == ["cotun-trio"]
    assert "Cmd" not in settings
    assert settings["User"] == f"{USER}:{USER}"
    assert settings["WorkingDir"] == "/"
    assert settings["StopSignal"] == "SIGTERM"
    assert settings["Healthcheck"]["Test"] == ["CMD", "cotun-trio", "status"]
    assert settings["Volumes"] == {"/run/cotun-trio": {}}
    assert "LANG=C.UTF-8" in settings["Env"]
    passwd = (image.root / "etc/passwd").read_text()
    assert f"\ncotun-trio:x:{USER}:{USER}:cotun-trio:/nonexistent:/usr/sbin/nologin\n" in passwd


def test_it_says_what_it_is(image: Image) -> None:
    labels = image.config["config"]["Labels"]
    assert labels == image.manifest["annotations"]
    assert labels["org.opencontainers.image.title"] == "cotun-trio"
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    assert image.config["created"] == labels["org.opencontainers.image.created"]
    assert dt.datetime.fromisoformat(image.config["created"]).tzinfo == dt.UTC
    assert image.config["architecture"] == "amd64"
    assert image.described["platform"] == {"architecture": "amd64", "os": "linux"}
    name = image.described["annotations"]["org.opencontainers.image.ref.name"]
    assert name == f"cotun-trio:{VERSION}"


def test_dockers_own_list_is_about_the_same_image(image: Image) -> None:
    (told,) = json.loads((image.layout / "manifest.json").read_text())
    assert told["RepoTags"] == [f"cotun-trio:{VERSION}"]
    assert told["Config"].endswith(image.manifest["config"]["digest"].removeprefix("sha256:"))
    digests = [each["digest"].removeprefix("sha256:") for each in image.manifest["layers"]]
    assert [path.rpartition("/")[2] for path in told["Layers"]] == digests


def test_layers_are_roots_and_those_below_our_own_have_no_time(image: Image) -> None:
    contents = image.config["rootfs"]["diff_ids"]
    assert len(contents) == len(image.manifest["layers"]) == len(image.config["history"]) == 3
    for number, content in enumerate(contents):
        packed = blob(image.layout, image.manifest["layers"][number])
        assert content == f"sha256:{hashlib.sha256(gzip.decompress(packed)).hexdigest()}"
        with image.open_layer(number) as tar:
            members = tar.getmembers()
        assert {(member.uid, member.gid) for member in members} == {(0, 0)}
        assert {bool(member.mtime) for member in members} == {number == 2}
        assert all(member.isreg() or member.isdir() or member.issym() for member in members)


def test_there_is_no_program_besides_the_interpreter_and_ours(image: Image) -> None:
    programs = [
        shown(path, image.root)
        for place in ("bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin")
        for path in (image.root / place).glob("*")
    ]
    assert sorted(programs) == ["usr/bin/cotun-trio", "usr/bin/python3.11"]
    elves = {
        shown(path, image.root)
        for path in image.root.rglob("*")
        if path.is_file() and not path.is_symlink() and ".so" not in path.name
        if path.read_bytes()[:4] == b"\x7fELF"
    }
    assert elves == {"usr/bin/python3.11"}
    for name in ("pip", "ensurepip", "setuptools"):
        assert not list(image.root.rglob(name))


def test_nothing_is_for_all_to_write_and_nothing_runs_as_another_user(image: Image) -> None:
    modes: dict[str, int] = {}
    for number in range(3):
        with image.open_layer(number) as tar:
            modes |= {each.name: each.mode for each in tar.getmembers() if not each.issym()}
    assert {name for name, mode in modes.items() if mode & 0o022} == {
        "tmp",
        "var/tmp",
        "run/cotun-trio",
    }
    assert [name for name, mode in modes.items() if mode & 0o6000] == []


def test_each_package_is_told_to_scanners_and_has_its_licence(image: Image) -> None:
    status = image.root / "var/lib/dpkg/status.d"
    locked = {package.name: package for package in debian.locked("amd64")}
    assert {path.name for path in status.iterdir()} == locked.keys()
    for path in status.iterdir():
        text = path.read_text()
        assert f"\nVersion: {locked[path.name].version}\n" in text
        place = image.root / "usr/share/doc" / path.name
        if place.is_symlink():  # to that of another package
            place = place.parent / place.readlink()
        assert (place / "copyright").is_file(), path.name
    assert "ID=debian\n" in (image.root / "usr/lib/os-release").read_text()


def test_modules_are_compiled_and_used_without_a_look_at_their_sources(image: Image) -> None:
    sources = [path for path in image.root.rglob("*.py") if "/lib2to3/tests/" not in str(path)]
    assert len(sources) > 2000
    without = []
    for path in sources:
        compiled = path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc"
        if not compiled.exists():
            without.append(shown(path, image.root))
        else:
            assert int.from_bytes(compiled.read_bytes()[4:8], "little") == 0b01, path
            assert str(image.root).encode() not in compiled.read_bytes()
    assert not [name for name in without if "/cotun_trio/" in name]
    assert len(without) < 10, without  # those for later versions of Python


def test_the_authorities_are_those_of_debian(image: Image) -> None:
    bundle = (image.root / "etc/ssl/certs/ca-certificates.crt").read_text()
    assert bundle.count("-----BEGIN CERTIFICATE-----") > 100


def test_what_is_in_it_is_told_as_cyclonedx_has_it(archive: Path) -> None:
    text = archive.with_name(f"{ARCHIVE}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    told = json.loads(text)
    assert told["metadata"]["component"]["hashes"] == [
        {"alg": "SHA-256", "content": sha256(archive)}
    ]
    names: dict[str, set[str]] = {"deb": set(), "pypi": set()}
    for component in told["components"]:
        kind = component["purl"].removeprefix("pkg:").partition("/")[0]
        names[kind].add(f"{component['name']} {component['version']}")
    packages = debian.locked("amd64")
    assert names["deb"] == {f"{package.name} {package.version}" for package in packages}
    assert f"cotun-trio {VERSION}" in names["pypi"]
    assert len(names["pypi"]) > 20


def test_another_build_elsewhere_gives_the_same_bytes(builds: list[Path]) -> None:
    first, second = (build / "dist" for build in builds)
    for name in (ARCHIVE, f"{ARCHIVE}.cdx.json"):
        assert sha256(first / name) == sha256(second / name)


# ---- containers


async def test_without_words_it_says_what_it_can(runtime: Runtime) -> None:
    async with runtime.run() as container:
        assert await container.program.wait() == 0
        assert container.program.find("Usage: cotun-trio COMMAND")


@pytest.mark.parametrize("user", [None, 12345])
async def test_a_server_and_a_client_are_healthy_and_end(
    each_runtime: Runtime, user: int | None
) -> None:
    listen = {"HOST": LOOPBACK, "PORT": "0", "AUTH": "alice:secret"}
    login = {"AUTH": "alice:secret"}
    async with (
        listening(echo) as target,
        each_runtime.run("server", env=listen, user=user) as server,
    ):
        url = await url_of(server.program)
        remote = f"{LOOPBACK}:0:{target}"
        async with each_runtime.run("client", url, remote, env=login, user=user) as client:
            local = (await client.program.wait_for(r"Listening on (\S+) for"))[1]
            async with await connect(local) as stream:
                assert await echoes(stream)
            for each, role in ((server, "server"), (client, "client")):
                async with running(*each.enter, "cotun-trio", "status") as status:
                    assert await status.wait() == 0, status.lines
                    assert status.find(f"^cotun-trio {VERSION} {role}, ready$")
            os.kill(client.pid, signal.SIGTERM)
            assert await client.program.wait() == 0
        os.kill(server.pid, signal.SIGINT)
        assert await server.program.wait() == 0
        assert server.program.find("Ended by SIGINT, goodbye")


async def test_a_client_that_knows_no_name_says_so_and_is_not_healthy(runtime: Runtime) -> None:
    async with runtime.run("client", "http://nowhere.example", f"{LOOPBACK}:0:db:1") as client:
        await client.program.wait_for(
            "WARNING client: .*: nowhere.example:80: Temporary failure in"
        )
        await client.program.wait_for("Retrying in")
        async with running(*client.enter, "cotun-trio", "status") as status:
            assert await status.wait() == 1
            assert status.find("not ready: there is no tunnel: nowhere.example")
        os.kill(client.pid, signal.SIGTERM)
        assert await client.program.wait() == 0


ORPHAN = """
import os
if not os.fork():
    if os.fork():
        os._exit(0)
    os._exit(os.getppid() != 1)
os.wait()
"""


async def test_what_is_left_by_other_programs_is_no_zombie(runtime: Runtime) -> None:
    async with runtime.run("server", env={"HOST": LOOPBACK, "PORT": "0"}) as server:
        await url_of(server.program)
        async with running(*server.enter, "python3.11", "-c", ORPHAN) as other:
            assert await other.wait() == 0, other.lines
        with trio.fail_after(PATIENCE):
            await until(lambda: not children_of(server.pid))
        os.kill(server.pid, signal.SIGTERM)
        assert await server.program.wait() == 0


EVERYTHING = """
import importlib, pathlib, sys
place = pathlib.Path("/usr/lib/python3.11/lib-dynload")
for name in sorted(path.name.partition(".")[0] for path in place.iterdir()):
    importlib.import_module(name)
for name in ("coredis", "prometheus_client", "acme", "re2", "watchfiles", "truststore"):
    importlib.import_module(name)
import ssl, socket, os
context = ssl.create_default_context()
assert context.cert_store_stats()["x509_ca"] > 100
assert not os.path.exists(os.environ.get("HOME", "/nonexistent"))
for path in ("/etc/resolv.conf", "/etc/hosts", "/bin/sh"):
    assert not os.path.exists(path), path
try:
    open("/x", "w")
except OSError as error:
    assert error.strerror == "Read-only file system"
else:
    sys.exit("the root can be written")
print("all of it")
"""


async def test_all_that_is_compiled_has_the_libraries_that_it_needs(each_runtime: Runtime) -> None:
    async with each_runtime.run("-I", "-c", EVERYTHING, program="python3.11") as container:
        assert await container.program.wait() == 0, container.program.lines
        assert container.program.lines == ["all of it"]


async def test_several_workers_are_one_server(runtime: Runtime) -> None:
    listen = ("server", "--host", LOOPBACK, "--port", "0", "--workers", "2")
    async with listening(echo) as target, runtime.run(*listen) as server:
        url = await url_of(server.program)
        async with our_client(url, target=target) as (_, local), await connect(local) as stream:
            assert await echoes(stream)
        os.kill(server.pid, signal.SIGTERM)
        assert await server.program.wait() == 0


@pytest.mark.parametrize("at_server", [True, False])
@pytest.mark.interop
@pytest.mark.skipif(find_chisel() is None, reason=CHISEL_MISSING)
async def test_the_go_original_is_the_other_end(runtime: Runtime, at_server: bool) -> None:
    async with listening(echo) as target, contextlib.AsyncExitStack() as stack:
        if at_server:
            port = {"HOST": LOOPBACK, "PORT": "0"}
            server = await stack.enter_async_context(runtime.run("server", env=port))
            url = await url_of(server.program)
            client, local = await stack.enter_async_context(chisel_client(url, target=target))
            await client.wait_for(READY[chisel_client])
        else:
            _, url = await stack.enter_async_context(chisel_server())
            remote = f"{LOOPBACK}:0:{target}"
            ours = await stack.enter_async_context(runtime.run("client", url, remote))
            local = (await ours.program.wait_for(r"Listening on (\S+) for"))[1]
        async with await connect(local) as stream:
            assert await echoes(stream)
