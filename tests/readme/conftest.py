"""Machines for README's commands, and what the two have after its first use."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import attrs
import pytest
import trustme

from tests.support import machines
from tests.support.readme import FINGERPRINT, blocks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.support.machines import Machine
    from tests.support.programs import Program


@pytest.fixture(scope="session")
def _namespaces() -> None:
    if reason := machines.no_machines():
        pytest.skip(reason)


@pytest.fixture
def place(_namespaces: None, tmp_path: Path) -> Path:
    """Give a directory for machines; skips where there can be none."""
    return tmp_path


@pytest.fixture(scope="session")
def host_key(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Give a host key as README has one made, and its fingerprint."""
    path = tmp_path_factory.mktemp("key") / "host.key"
    command = [sys.executable, "-m", "cotun_trio", "server", "--keygen", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return path.read_text(), re.findall(r"fingerprint (\S+)", done.stderr)[0]


@attrs.frozen
class TwoMachines:
    """The machine inside and your own, with the files that README's first use leaves on them."""

    inside: Machine
    own: Machine
    fingerprint: str

    def typed(self, text: str) -> str:
        """Return what a user types for a text of README: with the fingerprint of their server."""
        return text.replace(FINGERPRINT, self.fingerprint)

    async def certify(self) -> None:
        """Give the machine inside a certificate of an authority that the own one trusts.

        It is in ``cert.pem`` and ``key.pem``.
        """
        authority = trustme.CA()
        certificate = authority.issue_cert("inside.example.com", common_name="inside")
        certificate.cert_chain_pems[0].write_to_path(str(self.inside.path("cert.pem")))
        certificate.private_key_pem.write_to_path(str(self.inside.path("key.pem")))
        authority.cert_pem.write_to_path(str(self.own.path("authority.pem")))
        # As update-ca-certificates does, which takes its time for all the others.
        await self.own.run(
            "cat authority.pem >>/etc/ssl/certs/ca-certificates.crt; "
            "cp authority.pem /etc/ssl/certs/$(openssl x509 -hash -noout -in authority.pem).0"
        )

    def client(self, text: str) -> AbstractAsyncContextManager[Program]:
        """Run a client on the own machine, and wait for its session."""
        return self.own.running(self.typed(text), until=r"Connected \(Latency ")

    def server(self, text: str) -> AbstractAsyncContextManager[Program]:
        """Run a server on the machine inside, and wait until it listens."""
        return self.inside.running(self.typed(text), until="Listening on http")


Meet = "Callable[[], AbstractAsyncContextManager[TwoMachines]]"


@pytest.fixture
def meet(place: Path, host_key: tuple[str, str]) -> Meet:
    """Give what gives the two machines."""

    @contextlib.asynccontextmanager
    async def give() -> AsyncIterator[TwoMachines]:
        key, fingerprint = host_key
        # The file of the client is written, and the way not examined again.
        way = blocks()["On two machines"][2].rpartition("cotun-trio doctor")[0]
        async with machines.two_machines(place) as (inside, own):
            found = TwoMachines(inside, own, fingerprint)
            for name, text in (("host.key", key), ("login", "alice:secret\n")):
                inside.path(name).write_text(text)
                inside.path(name).chmod(0o600)
            await own.run(found.typed(way))
            yield found

    return give


@pytest.fixture
def recipe(meet: Meet) -> Meet:
    """Give what gives the two machines, with the server that README has for its recipes."""

    @contextlib.asynccontextmanager
    async def give() -> AsyncIterator[TwoMachines]:
        (server,) = blocks()["Recipes"]
        async with meet() as both, both.server(server):
            yield both

    return give
