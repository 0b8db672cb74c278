"""A fleet of real processes: nodes are killed, Redis is stopped and emptied, users are removed.

Times are printed (``pytest -s``), and held against bounds that are wide: machines are busy.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.fleet_processes import (
    LEASE,
    PATIENCE,
    balancer,
    fleet,
    until_reached,
    visitors,
)
from tests.support.peers import needs
from tests.support.programs import WITH_CHISEL, chisel, ours
from tests.support.targets import echo, free_port, listening

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.interop, needs("redis-server")]


async def test_the_owner_is_killed_and_its_client_is_reached_again(tmp_path: Path) -> None:
    async with (
        listening(echo) as target,
        fleet(tmp_path) as nodes,
        ours("client", *nodes.servers(), nodes.nodes[0].url, nodes.remote(target)) as client,
    ):
        await client.wait_for("Connected")
        await nodes.until_reached(0, 1, 2)
        nodes.nodes[0].program.send_signal(signal.SIGKILL)
        seconds = await nodes.until_reached(1, 2)
        print(f"reached again {seconds:.2f} s after the owner was killed")
        assert seconds < LEASE + 2


async def test_the_owner_ends_and_no_visitor_of_other_nodes_notices(tmp_path: Path) -> None:
    async with (
        listening(echo) as target,
        fleet(tmp_path) as nodes,
        ours("client", *nodes.servers(), nodes.nodes[0].url, nodes.remote(target)) as client,
    ):
        await client.wait_for("Connected")
        await nodes.until_reached(0, 1, 2)
        async with visitors(nodes.visited(1), nodes.visited(2)) as coming:
            await coming.more(20)
            assert await nodes.nodes[0].program.stop() == 0
            await coming.more(20)
        await client.wait_for("Connected", times=2)
        print(f"{coming.served} visitors were served")
        assert not coming.failures


@needs("haproxy")
@pytest.mark.parametrize("kind", ["ours", pytest.param("theirs", marks=WITH_CHISEL)])
async def test_a_client_behind_haproxy_is_reached_through_every_node(
    kind: str, tmp_path: Path
) -> None:
    run = {"ours": ours, "theirs": chisel}[kind]
    async with (
        listening(echo) as target,
        fleet(tmp_path) as nodes,
        balancer(nodes, tmp_path) as haproxy,
        run(
            *("client", "--max-retry-interval", "1s"),
            *(haproxy.url, nodes.remote(target)),
        ) as client,
    ):
        await client.wait_for("Connected")
        await nodes.until_reached(0, 1, 2)
        await until_reached(haproxy.visited)
        # And its node is killed: it comes back by HAProxy, to another one.
        [owner] = [node for node in nodes.nodes if node.program.find("open, client")]
        owner.program.send_signal(signal.SIGKILL)
        others = [number for number, node in enumerate(nodes.nodes) if node is not owner]
        seconds = await nodes.until_reached(*others)
        print(f"reached again {seconds:.2f} s after the node was killed ({kind})")
        assert seconds < 2 * LEASE
        await until_reached(haproxy.visited)


async def test_redis_stops_and_visitors_go_on(tmp_path: Path) -> None:
    async with (
        listening(echo) as target,
        fleet(tmp_path, 2) as nodes,
        ours("client", nodes.nodes[0].url, nodes.remote(target)) as client,
    ):
        await client.wait_for("Connected")
        await nodes.until_reached(0, 1)
        async with visitors(nodes.visited(0), nodes.visited(1)) as coming:
            nodes.directory.send_signal(signal.SIGSTOP)
            async with ours(
                *("client", "--max-retry-interval", "500ms", nodes.nodes[1].url),
                nodes.remote(target).replace(str(nodes.port), str(another := free_port())),
            ) as late:
                refused = await late.wait_for("Connection error: .*")
                assert "the fleet's directory does not answer" in refused[0]
                await coming.more(20)
                nodes.directory.send_signal(signal.SIGCONT)
                await late.wait_for("Connected")
                await until_reached(*(f"{node.host}:{another}" for node in nodes.nodes))
            await coming.more(20)
        print(f"{coming.served} visitors were served")
        assert not coming.failures


async def test_redis_is_emptied_and_filled_again(tmp_path: Path) -> None:
    async with (
        listening(echo) as target,
        fleet(tmp_path, 2) as nodes,
        ours("client", nodes.nodes[0].url, nodes.remote(target)) as client,
    ):
        await client.wait_for("Connected")
        await nodes.until_reached(0, 1)
        async with visitors(nodes.visited(0), nodes.visited(1)) as coming:
            assert await nodes.redis.command("FLUSHALL") == b"+OK"
            began = trio.current_time()
            with trio.fail_after(PATIENCE):
                while await nodes.redis.command("HLEN", "cotun:{cotun}:claims") != b":1":
                    await trio.sleep(0.02)
            seconds = trio.current_time() - began
            print(f"the claim is back {seconds:.2f} s after FLUSHALL")
            assert seconds < LEASE
            await coming.more(20)
        assert not coming.failures
        # The claim binds: another client does not get the place.
        async with ours("client", nodes.nodes[1].url, nodes.remote(target)) as late:
            await late.wait_for("Connection error: .*another client has it")


async def test_a_user_removed_at_one_node_is_cut_at_another(tmp_path: Path) -> None:
    both = '{"alice:a": [""], "bob:b": [""]}'
    async with (
        listening(echo) as target,
        fleet(tmp_path, 2, users=both) as nodes,
        ours("client", "--auth", "alice:a", nodes.nodes[1].url, nodes.remote(target)) as client,
    ):
        await client.wait_for("Connected")
        await nodes.until_reached(0, 1)
        users = nodes.nodes[0].users
        assert users is not None
        users.write_text('{"bob:b": [""]}')
        began = trio.current_time()
        await client.wait_for("Disconnected: .*alice' has been removed")
        seconds = trio.current_time() - began
        print(f"cut {seconds:.2f} s after the file of another node had changed")
        assert seconds < 5
