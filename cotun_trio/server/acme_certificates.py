"""The TLS of a server that gets its certificates by ACME: one for each name, renewed in time.

Clients are told apart before there is any TLS, by their ClientHello: the authority, which offers
``acme-tls/1`` while it looks at a challenge, and the others, by the name that they ask for.  A name
that is not ours is refused; so is one of ours that has no certificate yet.  Where port 80 can be
had, challenges are shown there as well, and everybody else is sent to HTTPS.

A certificate is renewed at two thirds of its life.  A failure is tried again, after a minute at
first and then after twice the time each, since authorities bar servers that ask too often.
"""

from __future__ import annotations

import functools
import random
import ssl
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from cryptography import x509

from cotun_trio.errors import AcmeFailed, TlsFailed, UsageError
from cotun_trio.escape import escape
from cotun_trio.net.tls import Tls
from cotun_trio.net.tls_files import ALPN, load_authorities
from cotun_trio.units import format_duration

if TYPE_CHECKING:
    from cotun_trio.logs import Context
    from cotun_trio.protocol.client_hello import ClientHello
    from cotun_trio.settings import ServerAcme

CHALLENGE = b"acme-tls/1"
HTTP_PORT = 80
"""Where HTTP-01 is looked for; there is no other."""
FIRST_RETRY, MAX_RETRY = 60.0, 6 * 3600.0
"""Seconds: Let's Encrypt allows five failures an hour."""
JITTER = 0.1
"""The part of each wait that is left to chance: so that not all servers come at once."""
NAP = 3600.0
"""Seconds at most between two looks at the clock: a machine can sleep for days."""


class AcmeCertificates:
    """Certificates for some names.  Raises `UsageError` where they cannot be had at all."""

    def __init__(self, settings: ServerAcme, log: Context) -> None:
        try:
            from cotun_trio.net.acme import Authority
        except ImportError:
            raise UsageError(
                "--tls-domain takes the acme library, which is missing: pip install acme josepy"
            ) from None
        self._settings = settings
        self._log = log
        self._authority = Authority(settings)
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._challenges: dict[str, ssl.SSLContext] = {}
        self._renewals: dict[str, datetime] = {}
        self._ends: dict[str, datetime] = {}
        self._warnings: dict[str, None] = {}  # in order, each once
        self.pages: dict[str, str] = {}
        """The pages for port 80, by path."""
        self._by_http = False  # whether port 80 is ours, so that challenges can be shown there
        self._one_at_a_time = trio.Lock()
        for domain in settings.domains:
            pem = self._authority.kept(domain)
            if pem is not None:
                self._use(domain, pem)

    @property
    def domains(self) -> tuple[str, ...]:
        """The names."""
        return self._settings.domains

    @property
    def expires(self) -> float | None:
        """When the first of the certificates ends, in seconds since 1970; None without any."""
        return min((end.timestamp() for end in self._ends.values()), default=None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Advice about the authorities of clients: a line each."""
        return tuple(self._warnings)

    def announce(self) -> None:
        """Log the warnings."""
        for warning in self._warnings:
            self._log.warning("%s", warning)

    def offer_pages(self) -> None:
        """Port 80 is ours: show challenges there, too, by `pages`."""
        self._by_http = True

    def tls(self, hello: ClientHello) -> Tls:
        """Return the server's end of TLS for a client that says `hello`.  Raises `TlsFailed`."""
        wanted = self._challenges if CHALLENGE in hello.protocols else self._contexts
        context = wanted.get(hello.name)
        if context is None:
            raise TlsFailed(f"TLS: no certificate for the name '{escape(hello.name)}'")
        return Tls(context, server_side=True)

    async def run(self) -> None:
        """Get certificates, and renew them, until cancelled."""
        async with trio.open_nursery() as nursery:
            for domain in self._settings.domains:
                nursery.start_soon(self._keep, domain)

    async def _keep(self, domain: str) -> None:
        retry, by_http = FIRST_RETRY, False
        while True:
            await self._wait_for_renewal(domain)
            wait = retry * random.uniform(1 - JITTER, 1 + JITTER)
            try:
                async with self._one_at_a_time:
                    await self._renew(domain, by_http=by_http)
            except AcmeFailed as error:
                self._log.warning(
                    "no certificate: %s: trying again in %s", error, format_duration(round(wait))
                )
                retry = min(2 * retry, MAX_RETRY)
                by_http = self._by_http and not by_http  # perhaps only one of the ports is reached
            else:
                retry = FIRST_RETRY
            await trio.sleep(wait)  # after a success, too: the certificate may be old already

    async def _wait_for_renewal(self, domain: str) -> None:
        while (due := self._renewals.get(domain)) is not None:
            left = (due - datetime.now(UTC)).total_seconds()
            if left <= 0:
                return
            await trio.sleep(min(left, NAP))

    async def _renew(self, domain: str, *, by_http: bool) -> None:
        self._log.info("getting a certificate for %s", domain)
        issue = functools.partial(self._authority.issue, domain, self, by_http=by_http)
        try:
            pem = await trio.to_thread.run_sync(issue, abandon_on_cancel=True)
        finally:
            self._challenges.pop(domain, None)
            self.pages.clear()  # there is one order at a time
        if not self._use(domain, pem):
            raise AcmeFailed(f"{domain}: what came is no certificate")
        due = self._renewals[domain]
        self._log.info("has a certificate for %s, to be renewed at %s", domain, f"{due:%Y-%m-%d}")

    def show_certificate(self, domain: str, pem: bytes) -> None:
        """See `cotun_trio.net.acme.Stage`."""
        self._challenges[domain] = _context(pem, [CHALLENGE.decode()])

    def show_page(self, path: str, text: str) -> None:
        """See `cotun_trio.net.acme.Stage`."""
        self.pages[path] = text

    def _warn(self, line: str) -> None:
        self._warnings[line] = None

    def _use(self, domain: str, pem: bytes) -> bool:
        """Use a certificate from now on; return whether it is one."""
        try:
            context = _context(pem, ALPN)
            certificate = x509.load_pem_x509_certificate(pem)
        except (ssl.SSLError, ValueError):
            return False
        if self._settings.clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            load_authorities(context, self._settings.clients, self._warn)
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        life = (end - start) * (2 / 3 - random.uniform(0, JITTER))
        self._contexts[domain] = context
        self._renewals[domain] = start + life
        self._ends[domain] = end
        return True


def _context(pem: bytes, protocols: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(protocols)
    # The ssl module takes a key from files only.
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "pem"
        path.touch(0o600)
        path.write_bytes(pem)
        context.load_cert_chain(path)
    return context
