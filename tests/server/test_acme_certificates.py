"""When certificates are got and renewed, and who gets which; the authority is the test."""

from __future__ import annotations

import itertools
import ssl
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from cryptography import x509

from cotun_trio.errors import AcmeFailed, TlsFailed, UsageError
from cotun_trio.logs import get_logger
from cotun_trio.protocol.client_hello import ClientHello
from cotun_trio.server import acme_certificates
from cotun_trio.server.acme_certificates import FIRST_RETRY, MAX_RETRY, AcmeCertificates
from cotun_trio.settings import ServerAcme
from tests.support.log_watch import watch_logs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


NAME = "a.example"
DAY = 86_400.0


class FakeAuthority:
    """Issues certificates that live for so many days, of which some have gone; or fails."""

    def __init__(self, life: float = 90, gone: float = 0) -> None:
        self.asked: list[tuple[float, bool]] = []
        self.failing = False
        self.life, self.gone = life, gone
        self._ca = trustme.CA()
        self.in_cache: dict[str, bytes] = {}

    def certificate(self, domain: str) -> bytes:
        start = datetime.now(UTC) - timedelta(days=self.gone)
        leaf = self._ca.issue_cert(
            domain, not_before=start, not_after=start + timedelta(days=self.life)
        )
        return leaf.private_key_and_cert_chain_pem.bytes()

    def kept(self, domain: str) -> bytes | None:
        return self.in_cache.get(domain)

    def issue(self, domain: str, stage: AcmeCertificates, *, by_http: bool) -> bytes:
        self.asked.append((trio.current_time(), by_http))
        stage.show_certificate(domain, self.certificate(domain))
        stage.show_page("/.well-known/acme-challenge/x", "y")
        assert stage.tls(ClientHello(domain, (b"acme-tls/1",)))
        if self.failing:
            raise AcmeFailed(f"{domain}: no")
        return self.certificate(domain)


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch) -> FakeAuthority:
    """Give the authority that the certificates are from; nothing runs in a thread."""
    fake = FakeAuthority()
    monkeypatch.setattr("cotun_trio.net.acme.Authority", lambda _settings: fake)

    async def at_once(function: Callable[[], Any], **_: object) -> Any:
        await trio.lowlevel.checkpoint()
        return function()

    monkeypatch.setattr(acme_certificates.trio.to_thread, "run_sync", at_once)
    monkeypatch.setattr(acme_certificates.random, "uniform", lambda low, high: (low + high) / 2)
    return fake


def certificates(*domains: str, **more: Any) -> AcmeCertificates:
    return AcmeCertificates(ServerAcme(domains=domains or (NAME,), **more), get_logger("server"))


async def run_for(seconds: float, subject: AcmeCertificates) -> None:
    with trio.move_on_after(seconds):
        await subject.run()


async def test_each_name_has_its_certificate_and_others_have_none(
    authority: FakeAuthority, autojump: trio.testing.MockClock
) -> None:
    subject = certificates("a.example", "b.example")
    with pytest.raises(TlsFailed, match=r"no certificate for the name 'a.example'"):
        subject.tls(ClientHello("a.example"))
    await run_for(1, subject)
    assert len(authority.asked) == 2
    for name in ("a.example", "b.example"):
        subject.tls(ClientHello(name))
        with pytest.raises(TlsFailed):  # the challenges are over
            subject.tls(ClientHello(name, (b"acme-tls/1",)))
    for name in ("c.example", "", "x.a.example", "a\n.example"):
        with pytest.raises(TlsFailed) as caught:
            subject.tls(ClientHello(name))
        assert str(caught.value).isprintable()
    assert not subject.pages


async def test_a_certificate_that_was_kept_is_used_and_nobody_asked(
    authority: FakeAuthority, autojump: trio.testing.MockClock
) -> None:
    authority.in_cache[NAME] = authority.certificate(NAME)
    subject = certificates()
    subject.tls(ClientHello(NAME))
    await run_for(DAY, subject)
    assert not authority.asked


async def test_of_several_certificates_the_first_to_end_is_told(
    authority: FakeAuthority, autojump: trio.testing.MockClock
) -> None:
    authority.in_cache["a.example"] = authority.certificate("a.example")
    subject = certificates("a.example", "b.example")
    first = x509.load_pem_x509_certificate(authority.in_cache["a.example"])
    assert subject.expires == first.not_valid_after_utc.timestamp()
    authority.life = 10
    await run_for(1, subject)
    assert subject.expires == pytest.approx(first.not_valid_after_utc.timestamp() - 80 * DAY, abs=9)
    authority.in_cache.clear()
    assert certificates().expires is None


@pytest.mark.parametrize("damaged", [b"", b"rubbish"])
async def test_what_was_kept_and_is_damaged_is_got_anew(
    authority: FakeAuthority, autojump: trio.testing.MockClock, damaged: bytes
) -> None:
    authority.in_cache[NAME] = damaged
    subject = certificates()
    await run_for(1, subject)
    assert len(authority.asked) == 1
    assert subject.tls(ClientHello(NAME))


@pytest.mark.parametrize(("gone", "asked"), [(50.0, False), (65.0, True), (95.0, True)])
async def test_it_is_renewed_at_two_thirds_of_its_life(
    authority: FakeAuthority, autojump: trio.testing.MockClock, gone: float, asked: bool
) -> None:
    authority.gone = gone
    authority.in_cache[NAME] = authority.certificate(NAME)
    authority.gone = 0
    await run_for(DAY, certificates())
    assert bool(authority.asked) is asked


async def test_what_fails_is_tried_again_after_longer_and_longer(
    authority: FakeAuthority, autojump: trio.testing.MockClock
) -> None:
    authority.failing = True
    async with watch_logs() as log:
        await run_for(2 * DAY, certificates())
    times = [when for when, _ in authority.asked]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert waits[:4] == pytest.approx([FIRST_RETRY * 2**n for n in range(4)])
    assert max(waits) == pytest.approx(MAX_RETRY)
    assert len(times) < 20
    assert len(log.find("no certificate: a.example: no: trying again in 1m0s$")) == 1
    assert not any(by_http for _, by_http in authority.asked)


async def test_where_port_80_is_ours_the_challenges_take_turns(
    authority: FakeAuthority, autojump: trio.testing.MockClock
) -> None:
    authority.failing = True
    subject = certificates()
    subject.offer_pages()
    await run_for(1000, subject)
    assert [by_http for _, by_http in authority.asked[:4]] == [False, True, False, True]


async def test_an_authority_that_gives_old_certificates_is_not_hammered_at(
    authority: FakeAuthority, autojump: trio.testing.MockClock
) -> None:
    authority.gone = 80
    await run_for(10 * FIRST_RETRY, certificates())
    assert 2 <= len(authority.asked) <= 11


def test_clients_have_to_have_certificates_where_that_is_asked_for(
    authority: FakeAuthority, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca))
    authority.in_cache[NAME] = authority.certificate(NAME)
    subject = certificates(clients=str(ca))
    assert subject._contexts[NAME].verify_mode is ssl.CERT_REQUIRED


def test_a_cache_that_cannot_be_made_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot make the directory .*file"):
        certificates(cache=str(tmp_path / "file" / "cache"))


def test_without_the_library_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cotun_trio.net.acme", None)
    with pytest.raises(UsageError, match="pip install acme josepy"):
        certificates()
