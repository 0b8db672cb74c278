"""All steps of an examination, in their order.

Each is done by the client's own code: the doctor and a client with the same options get equally
far.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.client.doctor import trials
from cotun_trio.client.doctor.addresses import find_addresses, try_addresses
from cotun_trio.client.doctor.certificates import Certificate
from cotun_trio.client.doctor.step_names import StepName
from cotun_trio.client.doctor.steps import Steps
from cotun_trio.client.doctor.visitor import STAGE_TIMEOUT, Visitor
from cotun_trio.client.met_servers import MetServers
from cotun_trio.client.session import Stage
from cotun_trio.client.uplink import Uplink
from cotun_trio.errors import CotunError, TlsFailed, UpgradeRefused, UsageError
from cotun_trio.escape import escape
from cotun_trio.net.dial import address_family
from cotun_trio.net.sockets import close
from cotun_trio.protocol.addresses import join_host_port
from cotun_trio.protocol.dialect import CHISEL, COTUN, is_cotun_trio
from cotun_trio.protocol.http_answer import Diagnosis, read_fields, title
from cotun_trio.ssh.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.client.doctor.steps import Draft, Fact, Step
    from cotun_trio.net.transport import Transport
    from cotun_trio.protocol.dialect import Dialect
    from cotun_trio.settings import ClientSettings, Route

IDLE = 5.0
"""Seconds of the pause, by default."""
DIAL_TIMEOUT = 10.0
"""Seconds for the connection; of each, its proxy's answer and TLS."""
_SHOWN_FIELDS = (b"server", b"via", b"location", b"content-type", b"retry-after")


async def examine(
    settings: ClientSettings,
    report: Callable[[Step], None],
    *,
    route: Route | None = None,
    idle: float = IDLE,
) -> CotunError | None:
    """Examine a `route` of `settings`, the first by default; `report` is called with each step.

    The pause in the session is `idle` seconds long; without it (0), there is none.  Returns the
    failure that ended it, or None.  Raises `UsageError` where files of the settings cannot be used.
    When cancelled, nothing is left open.
    """
    return await _Examination(settings, report, route or settings.routes[0], idle).run()


class _Examination:
    def __init__(
        self,
        settings: ClientSettings,
        report: Callable[[Step], None],
        route: Route,
        idle: float,
    ) -> None:
        patience = settings.timings
        timings = attrs.evolve(
            patience,
            dial_timeout=min(patience.dial_timeout, DIAL_TIMEOUT),
            ws_timeout=min(patience.ws_timeout, STAGE_TIMEOUT),
        )
        self._settings = attrs.evolve(settings, timings=timings)
        self._route = route
        self._url = self._route.server
        self._idle = idle
        self._scratch = Scratch()
        self._met = MetServers(settings.known_hosts, read_only=True)
        self._uplink = Uplink(self._settings, self._scratch)
        self._steps = Steps(self._plan(), report)

    def _plan(self) -> list[StepName]:
        proxy = self._route.proxy
        left_out = {StepName.CONNECTION if proxy is not None else StepName.PROXY}
        if not self._url.tls:
            left_out.add(StepName.TLS)
        if not self._idle:
            left_out.add(StepName.IDLE)
        if address_family(self._first_host) is not None:
            left_out.add(StepName.NAME)
        return [name for name in StepName if name not in left_out]

    @property
    def _first_host(self) -> str:
        """The host to be connected to: the proxy, which looks the server up, or the server."""
        proxy = self._route.proxy
        return self._url.host if proxy is None else proxy.host

    async def run(self) -> CotunError | None:
        """Do all steps; return the failure of the last one, if it failed."""
        try:
            await self._find()
            await self._visit(await self._connect())
        except UsageError:
            raise
        except CotunError as failure:
            self._steps.skip_rest()
            return failure
        return None

    # ---- TCP and TLS

    async def _find(self) -> None:
        host, proxy = self._first_host, self._route.proxy
        family = address_family(host)
        found = [(family, host)] if family else await find_addresses(self._steps, host)
        port = self._url.port if proxy is None else proxy.port
        await try_addresses(self._steps, found, port)

    async def _connect(self) -> Transport:
        """Return a connection, with TLS if the URL has it.  Raises `CotunError`."""
        proxy = self._route.proxy
        with self._steps.step(StepName.CONNECTION if proxy is None else StepName.PROXY) as step:
            if proxy is not None:
                target = join_host_port(self._url.host, self._url.port)
                step.facts |= {"proxy": escape(str(proxy)), "to": escape(target)}
            transport = await self._uplink.connect(self._route)
            with contextlib.suppress(OSError):  # it is gone again: the next step says so
                step.facts["address"] = join_host_port(*transport.sock.getpeername()[:2])
        if self._url.tls:
            try:
                with self._steps.step(StepName.TLS) as step:
                    await self._shake_hands(transport, step)
            except BaseException:
                close(transport.sock)
                raise
        return transport

    async def _shake_hands(self, transport: Transport, step: Draft) -> None:
        try:
            await self._uplink.shake_hands(transport, self._url)
        except TlsFailed:
            step.facts["verified"] = False
            shown = self._note_certificate(transport, step)
            if shown is not None and shown.opener:
                step.diagnosis = Diagnosis(
                    f"{shown.opener} is on the way and opens TLS",
                    "trust its authority by --tls-ca; with --fingerprint, it can neither read nor "
                    "change what is inside",
                )
            raise
        assert transport.tls is not None
        step.facts |= {
            "version": transport.tls.version,
            "cipher": transport.tls.cipher,
            "verified": not self._settings.tls.skip_verify,
        }
        self._judge_certificate(self._note_certificate(transport, step), step)

    def _judge_certificate(self, shown: Certificate | None, step: Draft) -> None:
        """Warn of a certificate that was taken, where there is something to say."""
        if shown is not None and shown.opener:
            step.warn(
                f"{shown.opener} is on the way and opens TLS",
                "with --fingerprint, it can neither read nor change what is inside",
            )
        elif self._settings.tls.skip_verify:
            if self._settings.fingerprint is None:
                step.warn(
                    "TLS is not verified, so that anything on the way may be the server",
                    "give --fingerprint, or --tls-ca in place of --tls-skip-verify",
                )
        elif shown is not None and shown.ends_soon:
            step.warn("the certificate ends soon", "the server's owner has to renew it")

    def _note_certificate(self, transport: Transport, step: Draft) -> Certificate | None:
        shown = Certificate.read(b"" if transport.tls is None else transport.tls.peer_certificate)
        if shown is not None:
            step.facts |= shown.facts()
        return shown

    async def _connect_again(self) -> Transport:
        """Return another connection, like the first one, which is no step."""
        transport = await self._uplink.connect(self._route)
        try:
            if self._url.tls:
                await self._uplink.shake_hands(transport, self._url)
        except BaseException:
            close(transport.sock)
            raise
        return transport

    # ---- the session

    async def _visit(self, transport: Transport) -> None:
        """Have a session on `transport`, or on another one where the first dialect is refused."""
        failure: CotunError | None = None
        async with trio.open_nursery() as nursery:
            try:
                visitor = await self._upgrade(transport, nursery)
                await self._log_in(visitor)
                await trials.try_pings(self._steps, visitor)
                if self._idle:
                    await trials.try_idle(self._steps, visitor, self._idle)
                await trials.try_upload(self._steps, visitor)
                visitor.leave()  # and its end is awaited by the nursery
            except CotunError as error:  # not through the nursery, which would make a group of it
                failure = error
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _upgrade(self, transport: Transport, nursery: trio.Nursery) -> Visitor:
        """Return the session, once it is a WebSocket.  It runs in `nursery`."""
        first, *others = self._settings.dialects
        with self._steps.step(StepName.UPGRADE) as step:
            visitor = self._begin(transport, first, nursery)
            try:
                for dialect in others:
                    try:
                        await visitor.reach(Stage.UPGRADED)
                        break
                    except UpgradeRefused as error:
                        if error.retry_after is not None:
                            raise
                    visitor = self._begin(await self._connect_again(), dialect, nursery)
                await visitor.reach(Stage.UPGRADED)
            except UpgradeRefused as error:
                step.facts |= _answer_facts(error.status, error.fields, error.body)
                raise
            head = visitor.wire.response_head
            step.facts |= _answer_facts(101, read_fields(head), b"")
            step.facts["protocol"] = visitor.session.dialect.token
        return visitor

    def _begin(self, transport: Transport, dialect: Dialect, nursery: trio.Nursery) -> Visitor:
        wire = self._uplink.wire(transport)
        visitor = Visitor(self._settings, self._url, wire, dialect, self._met, self._scratch)
        nursery.start_soon(visitor.run)
        return visitor

    async def _log_in(self, visitor: Visitor) -> None:
        """Get from the upgrade to an open session."""
        session, steps = visitor.session, self._steps
        with steps.step(StepName.SSH) as step:
            await visitor.reach(Stage.KEYS_AGREED)
            line = session.connection.engine.peer_version
            step.facts |= {"server_version": escape(line), "program": _family(line)}
        with steps.step(StepName.HOST_KEY) as step:
            try:
                await visitor.reach(Stage.IDENTIFIED)
            finally:
                step.facts["fingerprint"] = session.fingerprint
            await self._judge_host_key(step)
        with steps.step(StepName.LOGIN) as step:
            if (auth := self._settings.auth) is not None:
                step.facts["user"] = escape(auth.user)
            await visitor.reach(Stage.LOGGED_IN)
        with steps.step(StepName.CONFIG):
            await visitor.reach(Stage.OPEN)

    async def _judge_host_key(self, step: Draft) -> None:
        if self._settings.fingerprint is not None:
            step.facts["compared_with"] = "--fingerprint"
        elif await trio.to_thread.run_sync(self._met.is_known, self._url):
            step.facts["compared_with"] = "--known-hosts"
        else:
            step.facts["compared_with"] = "nothing"
            if not self._url.tls or self._settings.tls.skip_verify:
                step.warn(
                    "nothing says that this is the right server",
                    "compare the fingerprint with the one that the server prints at its start, and "
                    "then give it by --fingerprint",
                )


def _answer_facts(
    status: int, fields: tuple[tuple[bytes, bytes], ...], body: bytes
) -> dict[str, Fact]:
    """Return what an HTTP answer shows, escaped."""
    found: dict[str, Fact] = {"status": status}
    for name in _SHOWN_FIELDS:
        value = next((value for key, value in fields if key == name), None)
        if value is not None:
            found[name.decode().replace("-", "_")] = escape(value, 100)
    if page := title(body):
        found["page"] = page
    return found


def _family(version_line: str) -> str:
    """Return the program that has this SSH version line."""
    if is_cotun_trio(version_line):
        return "cotun-trio"
    for dialect in (CHISEL, COTUN):
        if version_line == dialect.server_version:
            return dialect.name
    return "unknown"
