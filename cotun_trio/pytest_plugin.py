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
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import pytest

from cotun_trio import testing

if TYPE_CHECKING:
    from cotun_trio.testing import MemoryClient, MemoryServer

TunnelPair = Callable[..., AbstractAsyncContextManager[tuple["MemoryServer", "MemoryClient"]]]


@pytest.fixture
def tunnel_pair() -> TunnelPair:
    """Give `cotun_trio.testing.tunnel_pair`."""
    return testing.tunnel_pair
