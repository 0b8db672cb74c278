"""A server that is a node of a fleet: ``cotun-trio server --fleet``.

It is the ordinary server, whose shared state is the fleet's (`cotun_trio.server.shared`), and
around it the node, the links to its peers and the ingress.

At its end, it says first that it drains: peers send their visitors elsewhere.  Then its own clients
are told, and those of our kind open their next session before they leave this one.  The ingress
listens until then, and the visitors that it has passed on get the rest of the time to end.  The
lease goes last.
"""

from __future__ import annotations

import math
import platform
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio._version import __version__
from cotun_trio.errors import CotunError
from cotun_trio.fleet.credentials import FleetKey
from cotun_trio.fleet.hop import Hop
from cotun_trio.fleet.ingress import Ingress, LocalOwner
from cotun_trio.fleet.node import Node, new_id
from cotun_trio.fleet.passed_visitors import PassedVisitors
from cotun_trio.fleet.peer_links import PeerLinks
from cotun_trio.fleet.places import listener_place
from cotun_trio.fleet.records import NodeFacts
from cotun_trio.fleet.redis_directory import open_directory
from cotun_trio.fleet.redis_url import RedisUrl
from cotun_trio.fleet.reverse_places import ReversePlaces
from cotun_trio.fleet.shown import fleet_figures
from cotun_trio.logs import get_logger
from cotun_trio.net.dial import open_listeners
from cotun_trio.protocol.addresses import is_wildcard
from cotun_trio.server.files import ServerFiles
from cotun_trio.server.server import Server
from cotun_trio.server.shared import SharedState
from cotun_trio.server.visitors import admission_by
from cotun_trio.system.systemd import Notifier

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Sequence
    from contextlib import AbstractAsyncContextManager

    from cotun_trio.access.users import Users
    from cotun_trio.fleet.directory import Directory
    from cotun_trio.server.session import ServerSession
    from cotun_trio.server.shown import ShownServer
    from cotun_trio.settings import ServerSettings
    from cotun_trio.system.systemd import Passed

PATIENCE = 0.5
"""Seconds for a client to show that it is alive, where another session wants its place."""
REVOKED = "the user '%s' has been removed, or has a new password, at another node"


class FleetServer:
    """A server with these `settings`, which have a fleet.

    `passed` and `notifier` are those of `Server`, and `directory` opens the fleet's directory, in
    place of the one that the settings name.  Raises `CotunError` for files that cannot be used.
    """

    def __init__(
        self,
        settings: ServerSettings,
        passed: Passed | None = None,
        notifier: Notifier | None = None,
        directory: Callable[[], AbstractAsyncContextManager[Directory]] | None = None,
    ) -> None:
        assert settings.fleet is not None
        self.notifier = notifier or Notifier({})
        self.log = get_logger("server")
        self._fleet = settings.fleet
        self._key = FleetKey.read(self._fleet.key)
        self._url = RedisUrl.parse(self._fleet.directory)
        if self._fleet.password_file is not None:
            self._url = self._url.with_password_from(self._fleet.password_file)
        self._open_directory = directory or partial(open_directory, self._url, self._fleet.name)
        files = ServerFiles(settings, self.log)
        self._users = files.accounts.users
        self._fingerprint = files.fingerprint
        self._settings = attrs.evolve(settings, host_key=files.host_key)
        self._passed = passed
        self._shutdown = trio.Event()
        self._ends_at = math.inf  # open connections are cut then
        self._server: Server | None = None
        self._places: ReversePlaces | None = None
        self._node: Node | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be a node until `shut_down`, and until that is done, or until cancelled.

        Started when it listens.  Raises `CotunError` where it cannot.
        """
        failure: CotunError | None = None
        async with self._open_directory() as directory:
            self.log.info("Node of the fleet '%s' at %s", self._fleet.name, self._url)
            try:
                await self._run(directory, task_status)
            except CotunError as error:  # not through the nursery, which would make a group of it
                failure = error
        if failure is not None:
            raise failure

    async def _run(self, directory: Directory, task_status: trio.TaskStatus[None]) -> None:
        node = self._node = self._make_node(directory)
        links = PeerLinks(node.id, self._key, self._settings.timings)
        visitors = PassedVisitors(self._key)

        def local(place: str) -> LocalOwner | None:
            hops = (Hop(route.session, place) for route in node.routes(place))
            found = next(filter(None, map(visitors.find, hops)), None)
            return None if found is None else LocalOwner(*found)

        admission = admission_by(self._settings)
        ingress = Ingress(node, links, self.log, self._open_sockets, local, admission)
        places = self._places = ReversePlaces(
            node,
            ingress if self._fleet.ingress == "all" else None,
            self._settings.reverse_host,
        )
        server = self._server = Server(
            self._settings,
            self._passed,
            self.notifier,
            places=places,
            shared=SharedState(
                failures=node.failures,
                bars=node.failures,
                elsewhere=places,
                peers=visitors,
                startups=node.count("startups"),
                sources=node.counts("sources"),
                user_sessions=node.counts("users"),
                sessions_changed=node.set_load,
                users_changed=self._users_changed,
                fleet=lambda: fleet_figures(self._fleet.name, self._url, node, ingress, links),
            ),
        )
        visitors.serve(server)
        await self._serve(server, node, links, ingress, task_status)

    async def _serve(
        self,
        server: Server,
        node: Node,
        links: PeerLinks,
        ingress: Ingress,
        task_status: trio.TaskStatus[None],
    ) -> None:
        failure: CotunError | None = None
        async with trio.open_nursery() as nursery:
            for task in (node.run, links.run, ingress.run, self._drain):
                nursery.start_soon(task)
            try:
                await server.run(task_status=task_status)
                with trio.CancelScope(deadline=self._ends_at):
                    await ingress.drain()
                await node.leave()
            except CotunError as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def _make_node(self, directory: Directory) -> Node:
        facts = NodeFacts(
            id=new_id(platform.node() or "node"),
            address=str(self._fleet.address),
            fingerprint=self._fingerprint,
            version=__version__,
            users=self._key.digest(self._users),
        )
        return Node(
            facts,
            directory,
            self,
            self.log,
            local=self._fleet.partition == "local",
            max_auth_failures=self._settings.max_auth_failures,
        )

    async def _open_sockets(self, host: str, port: int) -> list[socket.socket]:
        if self._settings.reverse_host is not None and is_wildcard(host):
            host = self._settings.reverse_host
        return await open_listeners(host, port)

    @property
    def addresses(self) -> Sequence[str]:
        """See `Server.addresses`."""
        return () if self._server is None else self._server.addresses

    @property
    def shown(self) -> ShownServer | None:
        """The server as administrators see it, once it runs."""
        return None if self._server is None else self._server.shown

    def barred(self, source: str) -> float:
        """Return for how many seconds more a source is barred; 0 if it is not."""
        return 0.0 if self._node is None else self._node.failures.barred(source)

    # ---- as the role of a process

    def shut_down(self) -> None:
        """See `Server.shut_down`."""
        self._shutdown.set()

    async def _drain(self) -> None:
        await self._shutdown.wait()
        assert self._node is not None
        assert self._server is not None
        self._ends_at = trio.current_time() + self._settings.timings.shutdown_grace
        self._node.drain()
        self._server.shut_down()

    def reload(self) -> None:
        """See `Server.reload`."""
        if self._server is not None:
            self._server.reload()

    def log_snapshot(self) -> None:
        """See `Server.log_snapshot`."""
        if self._server is not None:
            self._server.log_snapshot()

    def _users_changed(self, users: Users) -> None:
        """The users file has been read: what it takes away is taken away at all nodes."""
        before, self._users = self._users, users
        assert self._node is not None
        for name in before.changed_in(users):
            self._node.revoke(name)
        self._node.set_users(self._key.digest(users))

    # ---- as the host of the node

    def _session(self, number: int) -> ServerSession | None:
        sessions = () if self._server is None else self._server.reception.sessions
        return next((session for session in sessions if session.number == number), None)

    def yield_place(self, place: str, session: int, reason: str) -> None:
        """See `NodeHost`."""
        found = self._session(session)
        if found is None or self._server is None:
            return
        listeners = self._server.listeners
        lost = {
            id(each.remote) for each in listeners.held_by(found) if listener_place(each) == place
        }
        listeners.narrow(found, lambda remote: id(remote) not in lost)
        if not found.draining:  # or its client has left it, and its streams are to end in peace
            found.kick(f"{place}: {reason}")

    async def is_alive(self, session: int) -> bool:
        """See `NodeHost`."""
        found = self._session(session)
        return found is not None and await found.is_alive(PATIENCE)

    def cut_user(self, user: str) -> None:
        """See `NodeHost`."""
        sessions = [] if self._server is None else list(self._server.reception.sessions)
        for session in sessions:
            if session.user_name == user:
                session.kick(REVOKED % user)

    def places_changed(self, places: Collection[str]) -> None:
        """See `NodeHost`."""
        if self._places is not None:
            for place in places:
                self._places.changed(place)
