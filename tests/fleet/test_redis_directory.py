"""The directory in a real redis-server: the answers of the model, and failures of all kinds."""

from __future__ import annotations

import contextlib
import importlib
import random
import re
import signal
import ssl
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from cotun_trio.errors import NotNow, UsageError
from cotun_trio.fleet import entries, operations
from cotun_trio.fleet.directory import DirectoryFailed
from cotun_trio.fleet.leases import TTL
from cotun_trio.fleet.operations import Outdated, Read, Renew, Restate, Survey, Write
from cotun_trio.fleet.records import Route, Wish
from cotun_trio.fleet.redis_directory import open_directory
from cotun_trio.fleet.redis_url import RedisUrl
from tests.support.certificates import Authority
from tests.support.fleet import ModelDirectory, node_facts
from tests.support.fleet_nodes import running_node, until
from tests.support.peers import needs
from tests.support.redis import Redis, running_cluster, running_sentinel
from tests.support.targets import LOOPBACK, background, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cotun_trio.fleet.operations import Operation
    from cotun_trio.fleet.redis_directory import RedisDirectory
    from tests.support.fleet_nodes import RunningNode

pytestmark = [needs("redis-server"), pytest.mark.slow, pytest.mark.interop]

PLACE = "tcp/0.0.0.0:8080"
ALICE = Wish(PLACE, 1, "alice", mark="m1")
BOB = Wish(PLACE, 2, "bob", mark="m2")


# ---- the same as the model


class Pair:
    """The model and a real one; each operation goes to both."""

    def __init__(self, real: RedisDirectory, seed: int) -> None:
        self.real = real
        self.model = ModelDirectory()
        self.random = random.Random(seed)
        self.versions = dict.fromkeys("abc", 0)

    async def perform(self, operation: Operation) -> object:
        """Do it at both, and compare the answers."""
        expected = self.model.perform(operation, time.time())
        answer = await self.real.perform(operation)
        match expected, answer:
            case operations.Renewed(), operations.Renewed():
                same = {"position": 0, "life": ""}
                assert attrs.evolve(answer, **same) == attrs.evolve(expected, **same)
            case operations.Surveyed(), operations.Surveyed():
                assert set(answer.nodes) == set(expected.nodes)
                assert answer.epoch == expected.epoch
                assert set(answer.bars) == set(expected.bars)
                assert set(answer.revoked) == set(expected.revoked)
            case operations.Statement(), operations.Statement():
                assert answer.version == expected.version
                assert set(answer.routes) == set(expected.routes)
                assert answer.counts == expected.counts
            case _:
                assert answer == expected
        return expected

    def some_operation(self) -> Operation:
        """Return anything that a node could ask for, now or too late."""
        chance = self.random
        node = chance.choice("abc")
        version = max(self.versions[node] - chance.choice([0, 0, 0, 0, 0, 1]), 0)
        match chance.randrange(8):
            case 0:
                facts = node_facts(node, load=chance.randrange(3))
                return Renew(facts, chance.random() < 0.5, chance.randrange(20))
            case 1:
                return Read(node)
            case 2:
                return Survey()
            case 3 if chance.random() < 0.3:
                return operations.Leave(node)
            case 4:
                routes = tuple((self.some_route(), "m1") for _ in range(chance.randrange(3)))
                parts = chance.choice([(True, True), (True, True), (True, False), (False, True)])
                counts = {"s x": chance.randrange(3)}
                new = self.versions[node] + chance.choice([1, 1, 0])
                return Restate(node, new, routes, counts, *parts)
            case _:
                return Write(
                    node,
                    version,
                    chance.randrange(5),
                    tuple((self.some_wish(), False) for _ in range(chance.randrange(3))),
                    tuple(self.some_wish().key for _ in range(chance.randrange(2))),
                    {"s x": chance.randrange(3)} if chance.random() < 0.3 else {},
                    (entries.Revoked("alice"),) if chance.random() < 0.1 else (),
                )

    def some_wish(self) -> Wish:
        """Return a wish."""
        user, mark = self.random.choice([("alice", "m1"), ("bob smith", ""), ("", "m2")])
        group = self.random.choice(["", "", "a group"])
        return Wish(self.some_place(), self.random.randrange(4), user, group, mark)

    def some_route(self) -> Route:
        """Return a route."""
        epoch = self.random.randrange(1, 30)
        return Route(self.some_place(), self.random.randrange(4), "ä", "", epoch)

    def some_place(self) -> str:
        """Return a place."""
        return self.random.choice(["tcp/0.0.0.0:1", "unix//run/a socket", "udp/[::1]:3"])


@pytest.mark.parametrize("seed", range(4))
async def test_the_scripts_do_what_the_model_does(tmp_path: Path, seed: int) -> None:
    redis = Redis(tmp_path)
    async with redis.running(), redis.client() as real:
        pair = Pair(real, seed)
        for name in "abc":
            await pair.perform(Renew(node_facts(name), True, 0))
        for _ in range(400):
            operation = pair.some_operation()
            answer = await pair.perform(operation)
            if isinstance(answer, operations.Written | Outdated | operations.Renewed):
                node = operation.facts.id if isinstance(operation, Renew) else operation.node
                pair.versions[node] = max(answer.version, 0)
            if isinstance(operation, operations.Leave):
                # A renewal removes claims of the dead, which bind nobody, unless one comes back.
                for _ in range(2):
                    await pair.perform(Renew(node_facts("d"), False, 0))
        for name in "abc":
            await pair.perform(Read(name))
        await pair.perform(Survey())
        assert strip(await whole_stream(real)) == strip(pair.model.memory.stream)


async def whole_stream(real: RedisDirectory) -> list[tuple[int, entries.Entry]]:
    found: list[tuple[int, entries.Entry]] = []
    while news := await real.after(found[-1][0] if found else 0):
        found += news
    numbers = [number for number, _ in found]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return found


def strip(stream: list[tuple[int, entries.Entry]]) -> list[object]:
    """Return the entries of a stream without what depends on the clock, or makes no difference."""
    found: list[object] = []
    for _, entry in stream:
        if isinstance(entry, entries.Revoked):
            found.append(attrs.evolve(entry, stamp=0))
        elif isinstance(entry, entries.Changed):
            opened = {(route.place, route.session): route for route in entry.opened}
            closed = set(entry.closed) - set(opened)  # and opened again
            found.append((entry.node, entry.version, opened, closed, entry.counts))
        else:
            found.append(entry)
    return found


async def test_a_dead_node_is_buried_and_its_claims_are_removed(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    async with redis.running(), redis.client() as real:
        await real.perform(Renew(node_facts("a"), True, 0))
        claims = tuple((attrs.evolve(ALICE, place=f"tcp/x:{n}"), False) for n in range(200))
        await real.perform(Write("a", 0, 0, claims))
        await real.perform(operations.Leave("a"))
        for _ in range(3):  # some at a time
            await real.perform(Renew(node_facts("b"), False, 0))
        async with redis.client() as other:
            left = await other._questions.use(lambda client: client.keys("*"))
        assert {bytes(key).rpartition(b":")[2] for key in left} == {
            b"amnesty", b"b", b"epoch", b"last", b"leases", b"renewed", b"stream"
        }  # fmt: skip


async def test_questions_and_bars_go_by_the_stream(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    async with redis.running(), redis.client() as real:
        await real.perform(Renew(node_facts("a"), True, 0))
        told = (
            entries.Asked("b", PLACE, 7),
            entries.Kept(PLACE, 7),
            entries.Barred("192.0.2.1", 60.0),
        )
        await real.perform(Write("a", 0, 0, entries=told))
        news = [entry for _, entry in await real.after(0)]
        assert news == [entries.NodeChanged(node_facts("a"), 0), *told]
        survey = await real.perform(Survey())
        assert isinstance(survey, operations.Surveyed)
        assert 59.0 < survey.bars["192.0.2.1"] <= 60.0


async def test_failed_logins_bar_for_longer_each_time(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    async with redis.running(), redis.client() as real:
        seen = [await real.perform(operations.CountFailure("192.0.2.1", 2)) for _ in range(6)]
        assert [verdict.barred_for for verdict in seen] == [0, 60, 0, 120, 0, 240]  # type: ignore[union-attr]
        assert [verdict.delay for verdict in seen] == [0.1, 0.2] * 3  # type: ignore[union-attr]


async def test_a_lifted_bar_is_forgotten_with_the_failures_before_it(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    async with redis.running(), redis.client() as real:
        fail = operations.CountFailure("192.0.2.1", 2)
        for _ in range(3):  # a bar, and one more
            await real.perform(fail)
        await real.perform(Renew(node_facts("a"), True, 0))
        await real.perform(Write("a", 0, 0, entries=(entries.Lifted("192.0.2.1"),)))
        survey = await real.perform(Survey())
        assert isinstance(survey, operations.Surveyed)
        assert not survey.bars
        seen = [await real.perform(fail) for _ in range(2)]
        assert [verdict.barred_for for verdict in seen] == [0, 60]  # type: ignore[union-attr]


# ---- with nodes


@contextlib.asynccontextmanager
async def two_nodes(
    one: RedisDirectory, other: RedisDirectory
) -> AsyncIterator[tuple[RunningNode, RunningNode]]:
    async with running_node(one, "a") as a, running_node(other, "b") as b:
        yield a, b


async def test_of_two_nodes_that_race_for_a_place_one_has_it(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(redis.running())
        nodes = []
        for name in "ab":
            client = await stack.enter_async_context(redis.client())
            nodes.append(await stack.enter_async_context(running_node(client, name)))
        for number in range(20):
            outcomes: list[str] = []

            async def claim(index: int, wish: Wish, outcomes: list[str] = outcomes) -> None:
                try:
                    await nodes[index].node.claim(wish)
                    outcomes.append("given")
                except NotNow:
                    outcomes.append("refused")

            async with trio.open_nursery() as nursery:
                for index, wish in enumerate((ALICE, BOB)):
                    nursery.start_soon(claim, index, attrs.evolve(wish, place=f"tcp/x:{number}"))
            assert sorted(outcomes) == ["given", "refused"]


async def test_a_killed_redis_that_comes_back_with_its_disk_costs_nobody_a_place(
    tmp_path: Path,
) -> None:
    redis = Redis(tmp_path, options=("--appendonly", "yes", "--appendfsync", "always"))
    async with (
        redis.client() as client,
        redis.client() as other,
        redis.running() as program,
        two_nodes(client, other) as (a, b),
    ):
        epoch = await a.node.claim(ALICE)
        await until(lambda: b.node.choose(PLACE))
        program.send_signal(signal.SIGKILL)
        await program.wait()
        async with redis.running():
            with pytest.raises(NotNow, match="another client has it"):
                await b.node.claim(BOB)
            assert a.node.routes(PLACE)[0].epoch == epoch
            await b.node.claim(attrs.evolve(BOB, place="tcp/x:1"))
            await until(lambda: a.node.choose("tcp/x:1"))
            assert not a.host.yielded


async def test_a_killed_redis_that_comes_back_empty_is_filled_again(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    async with (
        redis.client() as client,
        redis.client() as other,
        redis.running() as program,
        two_nodes(client, other) as (a, b),
    ):
        await a.node.claim(ALICE)
        await until(lambda: b.node.choose(PLACE))
        program.send_signal(signal.SIGKILL)
        await program.wait()
        async with redis.running(), redis.client() as looking:

            async def is_there() -> bool:
                found = await looking.perform(Read("a"))
                return isinstance(found, operations.Statement) and bool(found.routes)

            with trio.fail_after(TTL):
                while not await is_there():
                    await trio.sleep(0.05)
            assert b.node.choose(PLACE)
            with pytest.raises(NotNow):
                await b.node.claim(BOB)


async def test_an_emptied_redis_is_filled_again(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    async with (
        redis.running(),
        redis.client() as client,
        redis.client() as other,
        two_nodes(client, other) as (a, b),
    ):
        await a.node.claim(ALICE)
        await until(lambda: b.node.choose(PLACE))
        await client._questions.use(lambda redis: redis.flushall())
        with trio.fail_after(TTL):
            while (
                not isinstance(found := await other.perform(Read("a")), operations.Statement)
                or not found.routes
            ):
                await trio.sleep(0.05)
        with pytest.raises(NotNow):
            await b.node.claim(BOB)
        await b.node.claim(attrs.evolve(BOB, place="tcp/x:1"))
        await until(lambda: a.node.choose("tcp/x:1"))
        assert not a.host.yielded


async def test_a_frozen_redis_is_found_by_deadlines_and_used_again_when_it_goes_on(
    tmp_path: Path,
) -> None:
    redis = Redis(tmp_path)
    async with redis.running() as program, redis.client() as client, running_node(client, "a") as a:
        await a.node.claim(ALICE)
        program.send_signal(signal.SIGSTOP)
        with pytest.raises(NotNow, match="directory does not answer"):
            await a.node.claim(attrs.evolve(ALICE, place="tcp/x:1"))
        assert a.node.routes(PLACE)
        program.send_signal(signal.SIGCONT)
        await a.node.claim(attrs.evolve(ALICE, place="tcp/x:1"))  # after the next renewal
        assert not a.host.yielded


async def test_a_thousand_routes_are_seen_by_the_other_node(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    async with (
        redis.running(),
        redis.client() as client,
        redis.client() as other,
        two_nodes(client, other) as (a, b),
    ):
        async with trio.open_nursery() as nursery:
            for number in range(1000):
                wish = attrs.evolve(ALICE, place=f"tcp/x:{number}", session=number)
                nursery.start_soon(a.node.claim, wish)
        await until(lambda: len(b.node.rules.view.table) == 1000)
        async with redis.client() as third, running_node(third, "c") as c:
            await until(lambda: len(c.node.rules.view.table) == 1000)
        await client._questions.use(lambda redis: redis.flushall())
        async with redis.client() as fourth, running_node(fourth, "d") as d:
            await until(lambda: len(d.node.rules.view.table) == 1000)


# ---- the connection


async def test_a_cancelled_question_leaves_no_answer_for_the_next_one(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    async with redis.running() as program, redis.client() as client:
        await client.perform(Renew(node_facts("a"), True, 7))
        program.send_signal(signal.SIGSTOP)
        with trio.move_on_after(0.05):
            await client.perform(Survey())
        program.send_signal(signal.SIGCONT)
        assert await client.perform(Read("nobody")) == operations.Statement(0)


async def test_questions_at_the_same_time_have_their_own_answers(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    async with redis.running(), redis.client() as client:
        found: dict[str, object] = {}

        async def ask(name: str) -> None:
            await client.perform(Renew(node_facts(name), True, 0))
            found[name] = await client.perform(Write(name, 0, 0, counts={f"s {name}": 1}))
            found[name] = await client.perform(Read(name))

        async with background() as nursery:
            for number in range(20):
                nursery.start_soon(ask, f"n{number}")
            await until(lambda: len(found) == 20 and all(map(is_statement, found.values())))
        for name, answer in found.items():
            assert answer == operations.Statement(1, counts={f"s {name}": 1})


def is_statement(answer: object) -> bool:
    return isinstance(answer, operations.Statement)


async def test_where_nobody_listens_the_reason_is_said(tmp_path: Path) -> None:
    async with Redis(tmp_path).client() as client:
        for _ in range(2):
            with pytest.raises(DirectoryFailed, match="connect"):
                await client.perform(Survey())


async def test_a_password_is_used_and_shown_to_nobody(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hush hush\n")
    file.chmod(0o600)
    redis = Redis(tmp_path, options=("--requirepass", "hush hush"))
    async with redis.running():
        async with open_directory(redis.url.with_password_from(str(file)), "test") as client:
            assert await client.perform(Read("a")) == operations.Statement(0)
        wrong = attrs.evolve(redis.url, password="wrong pass")
        for url in (redis.url, wrong):
            async with open_directory(url, "test") as client:
                with pytest.raises(DirectoryFailed) as caught:
                    await client.perform(Read("a"))
                assert "hush" not in str(caught.value)
                assert "wrong pass" not in str(caught.value)
                assert re.search("authenticated|invalid username", str(caught.value))


async def test_with_tls_the_certificate_is_verified(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    cert, key = authority.issue(LOOPBACK)
    port = free_port()
    words = ("--tls-port", str(port), "--tls-cert-file", cert, "--tls-key-file", key)
    words += ("--tls-ca-cert-file", authority.path, "--tls-auth-clients", "no")
    url = RedisUrl.parse(f"rediss://{LOOPBACK}:{port}")
    trusting = ssl.create_default_context(cafile=authority.path)
    async with Redis(tmp_path, options=words).running():
        async with open_directory(url, "test", trusting) as client:
            assert await client.perform(Read("a")) == operations.Statement(0)
        async with open_directory(url, "test") as client:
            with pytest.raises(DirectoryFailed, match="certificate verify failed"):
                await client.perform(Read("a"))


def test_without_coredis_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "cotun_trio.fleet.redis_directory"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "coredis", None)
    with pytest.raises(UsageError, match=r"pip install 'cotun-trio\[fleet\]'"):
        importlib.import_module(name)


async def test_text_that_is_none_of_ours_in_the_directory_is_a_failure(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    async with redis.running(), redis.client() as client:
        key = "cotun:{test}:state:a"
        await client._questions.use(lambda redis: redis.hset(key, {"nonsense": "1"}))
        with pytest.raises(DirectoryFailed, match="something else"):
            await client.perform(Read("a"))


async def test_a_fleet_has_a_plain_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be a fleet's name"):
        async with open_directory(Redis(tmp_path).url, "a}b"):
            pass


# ---- the other forms


async def test_a_cluster_is_a_directory(tmp_path: Path) -> None:
    async with (
        running_cluster(tmp_path) as url,
        open_directory(url, "test") as client,
        open_directory(url, "test") as other,
        two_nodes(client, other) as (a, b),
    ):
        await a.node.claim(ALICE)
        await until(lambda: b.node.choose(PLACE))
        with pytest.raises(NotNow, match="another client has it"):
            await b.node.claim(BOB)


async def test_under_sentinel_a_replica_takes_over_and_nobody_loses_a_place(tmp_path: Path) -> None:
    async with (
        running_sentinel(tmp_path) as (url, main),
        open_directory(url, "test") as client,
        open_directory(url, "test") as other,
        two_nodes(client, other) as (a, b),
    ):
        await a.node.claim(ALICE)
        await until(lambda: b.node.choose(PLACE))
        before = a.node.rules.view._life
        main.send_signal(signal.SIGSTOP)
        await until(lambda: a.node.rules.view._life != before)
        await b.node.claim(attrs.evolve(BOB, place="tcp/x:1"))
        await until(lambda: a.node.choose("tcp/x:1"))
        assert a.node.routes(PLACE)
        assert b.node.choose(PLACE)
        assert not a.host.yielded
        main.send_signal(signal.SIGCONT)
