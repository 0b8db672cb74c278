"""`cotun_trio.testing.tunnel_pair` as a pytest fixture.

It works with whatever runs your async tests, since it is a plain fixture.  In ``conftest.py``::

    pytest_plugins = ["cotun_trio.pytest_plugin"]

and in a test::

    async def test_it(tunnel_pair):
        async with tunnel_pair() as (server, client):
            ...
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from cotun_trio import testing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from cotun_trio.testing import MemoryClient, MemoryServer

TunnelPair = Callable[..., AbstractAsyncContextManager[tuple["MemoryServer", "MemoryClient"]]]


@pytest.fixture
def tunnel_pair() -> Iterator[TunnelPair]:
    """Give `cotun_trio.testing.tunnel_pair`; fail where a test leaves a pair open."""
    still_open = 0

    @asynccontextmanager
    async def counted(
        *args: Any, **options: Any
    ) -> AsyncIterator[tuple[MemoryServer, MemoryClient]]:
        nonlocal still_open
        still_open += 1
        try:
            async with testing.tunnel_pair(*args, **options) as pair:
                yield pair
        finally:
            still_open -= 1

    yield counted
    assert not still_open, f"{still_open} tunnels were left open"
