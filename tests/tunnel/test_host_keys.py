"""Host keys and fingerprints in a tunnel between a server and a client of ours."""

from __future__ import annotations

import pytest

from cotun_trio.access.credentials import Credentials
from cotun_trio.access.fingerprints import fingerprint, legacy_fingerprint
from cotun_trio.access.host_keys import as_host_key
from cotun_trio.client.client import Client
from cotun_trio.errors import FingerprintMismatch
from cotun_trio.server.server import Server
from cotun_trio.server.session import ServerSession
from tests.support.keys import KINDS, private_key, public_blob
from tests.support.log_watch import watch_logs
from tests.support.targets import echo, echoes, listening
from tests.support.tunnel import client_settings, running_server, server_settings, tunnel

WARNING = "legacy MD5 form"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_of_every_kind_carries_a_tunnel_and_both_sides_show_its_fingerprint(
    kind: str,
) -> None:
    expected = fingerprint(public_blob(kind))
    async with (
        watch_logs() as log,
        listening(echo) as target,
        tunnel(
            target,
            server={"host_key": as_host_key(private_key(kind))},
            client={"fingerprint": expected},
        ) as both,
        await both.connect() as stream,
    ):
        assert await echoes(stream)
        assert both.server.fingerprint == expected
        for side in ("server", "client"):
            assert log.lines(side).count(f"Fingerprint {expected}") == 1
        assert not log.find(WARNING)


async def test_the_legacy_form_lets_in_with_a_warning_that_has_the_better_one() -> None:
    blob = public_blob("Ed25519")
    async with (
        watch_logs() as log,
        listening(echo) as target,
        tunnel(
            target,
            server={"host_key": as_host_key(private_key("Ed25519"))},
            client={"fingerprint": legacy_fingerprint(blob).upper()},
        ) as both,
        await both.connect() as stream,
    ):
        assert await echoes(stream)
        (warning,) = log.find(f"{WARNING}.*", "client")
        assert warning[0].endswith(f"use --fingerprint '{fingerprint(blob)}'")


@pytest.mark.parametrize("form", [fingerprint, legacy_fingerprint])
async def test_another_key_is_refused_before_any_credential_is_sent(
    form: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins: list[str] = []

    async def verify_login(self: ServerSession, user: str, password: str) -> bool:
        logins.append(user)
        return True

    monkeypatch.setattr(ServerSession, "verify_login", verify_login)
    assert callable(form)
    expected = form(public_blob("P-256"))
    auth = Credentials("alice", "secret")
    async with (
        watch_logs() as log,
        running_server(host_key=as_host_key(private_key("RSA")), auth=auth) as server,
    ):
        settings = client_settings(server.addresses[0], fingerprint=expected, auth=auth)
        with pytest.raises(FingerprintMismatch):
            await Client(settings).run()
        await log.wait_for("closed before it was open", "server")
        assert logins == []
        # Of a server that may be anybody's, nobody should take the fingerprint over.
        assert not log.find(WARNING)


def test_a_server_without_a_key_in_its_settings_makes_its_own() -> None:
    first, second = (Server(server_settings()) for _ in range(2))
    assert first.fingerprint != second.fingerprint
