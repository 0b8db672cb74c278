"""What systemd is told and what it gives, with a parent and a listener of the tests' own."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trio.testing

from cotun_trio import cli
from cotun_trio.errors import UsageError
from cotun_trio.system import systemd
from cotun_trio.system.systemd import Notifier, Passed
from tests.support.peers import needs
from tests.support.programs import our_client, our_server, running
from tests.support.targets import LOOPBACK, connect, echo, echoes, listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.programs import Program

SCRIPTS = Path(__file__).parents[2] / "scripts"


# ---- telling


@attrs.frozen
class Manager:
    """Who is told, in the place of systemd."""

    sock: socket.socket
    address: str

    def heard(self) -> list[str]:
        """Return the datagrams that have come."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.sock.recv(4096).decode())
        return found

    async def hears(self, *parts: str) -> str:
        """Return the next datagram with all of `parts`."""
        with trio.fail_after(20):
            while True:
                await trio.lowlevel.wait_readable(self.sock)
                datagram = self.sock.recv(4096).decode()
                if all(part in datagram.split("\n") for part in parts):
                    return datagram


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """Give somebody who listens, at either kind of address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        if request.param == "path":
            address = str(tmp_path / "notify")
            sock.bind(address)
        else:
            sock.bind("")  # Linux gives it an abstract address
            address = "@" + sock.getsockname()[1:].decode()
        sock.setblocking(False)
        yield Manager(sock, address)


def test_a_service_manager_is_told_each_state_once(manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.address, "A": "b"}
    notifier = Notifier(environment)
    assert environment == {"A": "b"}  # no child of ours speaks for us
    notifier.status("Connecting")
    with notifier.reloading():
        pass  # there is nothing to reload yet
    notifier.ready("Connected")
    notifier.ready("Connected")
    notifier.ready("Connected again")
    with notifier.reloading():
        assert re.fullmatch("RELOADING=1\nMONOTONIC_USEC=[0-9]+", manager.heard()[-1])
    notifier.stopping(5)
    assert manager.heard() == [
        "READY=1",
        "STOPPING=1\nSTATUS=Shutting down\nEXTEND_TIMEOUT_USEC=10000000",
    ]


def test_states_come_in_their_order(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    notifier.status("a")
    notifier.ready("b")
    notifier.ready("b")
    notifier.ready("c")
    notifier.status("c")
    assert manager.heard() == ["STATUS=a", "READY=1\nSTATUS=b", "STATUS=c"]


def test_what_there_is_no_room_for_is_told_with_the_next(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    address = manager.address.replace("@", "\0")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as crowd:
        crowd.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                crowd.sendto(b"X=1", address)
    notifier.ready("a")
    notifier.status("b")
    with notifier.reloading():
        pass
    assert set(manager.heard()) == {"X=1"}
    notifier.tell("WATCHDOG=1")
    (datagram,) = manager.heard()
    assert {"READY=1", "STATUS=b", "WATCHDOG=1"} <= set(datagram.split("\n"))
    assert "RELOADING=1" not in datagram
    notifier.tell("WATCHDOG=1")
    assert manager.heard() == ["WATCHDOG=1"]


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@nobody-listens-here", "x" * 200])
def test_a_notify_socket_without_a_listener_is_no_error(address: str) -> None:
    environment = {"NOTIFY_SOCKET": address}
    notifier = Notifier(environment)
    notifier.ready("fine")
    notifier.stopping(1)
    assert not environment


async def test_the_watchdog_is_fed_twice_in_its_time(
    manager: Manager, autojump: trio.testing.MockClock
) -> None:
    environment = {
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    notifier = Notifier(environment)
    assert not environment
    with trio.move_on_after(61):
        await notifier.feed_watchdog()
    assert manager.heard() == ["WATCHDOG=1"] * 5


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "x"},
        {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"},
    ],
)
async def test_a_watchdog_that_is_none_or_somebody_elses_is_not_fed(
    environment: dict[str, str], manager: Manager
) -> None:
    await Notifier({"NOTIFY_SOCKET": manager.address, **environment}).feed_watchdog()
    assert manager.heard() == []


# ---- being given sockets


def taken(*socks: socket.socket, monkeypatch: pytest.MonkeyPatch, names: str = "") -> Passed:
    """Take `socks`, which were passed from some descriptor on."""
    first = 200
    for number, sock in enumerate(socks):
        os.dup2(sock.fileno(), first + number)
    monkeypatch.setattr(systemd, "FIRST_DESCRIPTOR", first)
    environment = {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(socks)),
        "LISTEN_FDNAMES": names,
    }
    try:
        return Passed.take(environment)
    finally:
        assert not environment


def test_sockets_are_told_apart_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((LOOPBACK, 0)) as one, socket.create_server((LOOPBACK, 0)) as other:
        passed = taken(one, other, monkeypatch=monkeypatch, names="web:health")
        ((main,), (health,)) = passed.main, passed.health
        with main, health:
            assert main.getsockname() == one.getsockname()
            assert health.getsockname() == other.getsockname()
            assert not main.getblocking()
            assert not main.get_inheritable()


def test_sockets_for_another_process_are_not_taken() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    assert Passed.take(environment) == Passed()
    assert Passed.take({}) == Passed()
    assert Passed.take({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"}) == Passed()


@pytest.mark.parametrize("kind", ["udp", "unix", "connected", "file"])
def test_what_is_no_listening_tcp_socket_is_an_error(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        if kind == "udp":
            made = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        elif kind == "unix":
            made = stack.enter_context(socket.socket(socket.AF_UNIX))
            made.bind(str(tmp_path / "s"))
            made.listen()
        elif kind == "connected":
            made = stack.enter_context(socket.socket())
        else:
            made = stack.enter_context((tmp_path / "f").open("w"))  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=r"the descriptor 200 \(web\) that was passed is no"):
            taken(made, monkeypatch=monkeypatch, names="web")
        os.close(200)


# ---- the programs


@pytest.mark.slow
async def test_a_server_and_a_client_say_how_they_are(manager: Manager) -> None:
    tell = {"NOTIFY_SOCKET": manager.address}
    async with listening(echo) as target, our_server(env=tell) as (server, url):
        address = url.removeprefix("http://")
        await manager.hears("READY=1", f"STATUS=Listening on {address}; 0 sessions")
        async with our_client(url, target=target) as (client, _):
            await manager.hears(f"STATUS=Listening on {address}; 1 sessions")
            await client.stop()
        await manager.hears(f"STATUS=Listening on {address}; 0 sessions")
        server.send_signal(signal.SIGHUP)
        await manager.hears("RELOADING=1")
        await manager.hears("READY=1")
        assert await server.stop() == 0
        await manager.hears("STOPPING=1")
    async with (
        our_server() as (server, url),
        our_client(url, target="x:1", env=tell) as (client, _),
    ):
        await manager.hears("READY=1", f"STATUS=Connected to {url}")
        await server.stop()
        await client.wait_for("Retrying")
        status = await manager.hears()
        assert re.fullmatch("STATUS=Retrying in .*: .*the server is shutting down", status)
        assert await client.stop() == 0
        await manager.hears("STOPPING=1")
    async with (
        our_server() as (server, url),
        our_server() as (_, other),
        our_client(url, "--connections=2", "--server", other, target="x:1", env=tell) as (
            client,
            _,
        ),
    ):
        await manager.hears("READY=1", "STATUS=Connected to 1 of 2 servers")
        await manager.hears("STATUS=Connected to 2 of 2 servers")
        await server.stop()
        await manager.hears("STATUS=Connected to 1 of 2 servers")
        assert await client.stop() == 0


@contextlib.asynccontextmanager
async def activated(listener: socket.socket, *options: str) -> AsyncIterator[Program]:
    """Run a server as systemd does that listens for it."""
    words = [sys.executable, "-m", "cotun_trio", "server", *options]
    number = listener.fileno()
    start = f"exec 3<&{number} {number}<&-; " if number != 3 else ""
    script = f"{start}LISTEN_PID=$$ LISTEN_FDS=1 exec {shlex.join(words)}"
    async with running("bash", "-c", script, pass_fds=[number]) as server:
        await server.wait_for("Listening on")
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_restart_behind_a_socket_of_systemds_loses_no_connection(workers: str) -> None:
    with socket.create_server((LOOPBACK, 0), backlog=1024) as listener:
        address = f"{LOOPBACK}:{listener.getsockname()[1]}"
        lost: list[str] = []
        ended: list[str] = []
        done = 0
        enough = trio.Event()
        progress = trio.lowlevel.ParkingLot()

        async def until(count: int) -> None:
            while done < count:
                await progress.park()

        async def carry(through: str) -> None:
            await carry_on(through)
            ended.append(through)
            progress.unpark_all()

        async def carry_on(through: str) -> None:
            nonlocal done
            while not enough.is_set():
                try:
                    async with await connect(through) as stream:
                        if through == address:
                            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
                            answer = await stream.receive_some()
                            assert answer.startswith(b"HTTP/1.1 200 OK")
                        else:
                            assert await echoes(stream)
                    done += 1
                    progress.unpark_all()
                except (OSError, trio.BrokenResourceError, EOFError, AssertionError) as error:
                    lost.append(f"{through}: {error!r}")

        async with (
            listening(echo) as target,
            activated(listener, "--workers", workers) as first,
            our_client(f"http://{address}", target=target) as (client, local),
        ):
            await client.wait_for("Connected")
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(carry, local)
                    nursery.start_soon(carry, address)
                await until(300)
                assert await first.stop() == 0
                async with activated(listener, "--workers", workers):
                    await client.wait_for("Connected", times=2)
                    await until(done + 700)
                    enough.set()
                    while len(ended) < 8:
                        await progress.park()
        assert lost == []


# ---- the units


ANALYZE = needs("systemd-analyze")
SERVICES = (
    "cotun-trio-server.service",
    "cotun-trio-host-key.service",
    "cotun-trio-client@.service",
)
UNITS = (*SERVICES, "cotun-trio-server.socket")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Give a directory with our units, whose program exists."""
    program = shutil.which("true")
    for name in UNITS:
        text = (SCRIPTS / name).read_text()
        path = tmp_path / name.replace("@", "@office")
        path.write_text(text.replace("ExecStart=cotun-trio ", f"ExecStart={program} "))
    return tmp_path


def analyze(*words: str) -> str:
    """Return what systemd-analyze says, which has to be content."""
    done = subprocess.run(
        ["systemd-analyze", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@ANALYZE
@pytest.mark.slow
@pytest.mark.interop
def test_systemd_finds_nothing_wrong_with_the_units(units: Path) -> None:
    paths = map(str, sorted(units.iterdir()))
    assert analyze("verify", "--man=no", *paths) == ""


@ANALYZE
@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.parametrize("name", SERVICES)
def test_the_services_are_locked_up_well(name: str, units: Path) -> None:
    said = analyze("security", "--offline=true", str(units / name.replace("@", "@office")))
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert exposure
    assert float(exposure[1]) <= 2.0  # of 10


@pytest.mark.parametrize("name", SERVICES)
def test_the_options_in_the_units_exist(name: str) -> None:
    text = (SCRIPTS / name).read_text().replace("\\\n", "")
    # Without a path: pip and the packages have the program in two places, and systemd knows both.
    command = re.search(r"^ExecStart=cotun-trio (server|client) (.*)$", text, re.MULTILINE)
    assert command
    said = subprocess.run(
        [sys.executable, "-m", "cotun_trio", command[1], "--help"], capture_output=True, text=True
    ).stdout
    for option in re.findall("--[a-z-]+", command[2]):
        assert option in said


def test_the_configuration_of_the_server_has_options_that_exist(tmp_path: Path) -> None:
    users = tmp_path / "users.json"
    users.write_text('{"alice:secret": [""]}')
    text = (SCRIPTS / "server.toml").read_text().replace("/etc/cotun-trio/users.json", str(users))
    assert str(users) in text
    config = tmp_path / "server.toml"
    config.write_text(re.sub("^#(?=[a-z])", "", text, flags=re.MULTILINE))
    with pytest.raises(SystemExit) as ended:
        cli.main(["config", "check", str(config)])
    assert not ended.value.code
