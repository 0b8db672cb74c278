"""Reverse remotes with the same target."""

import pytest

from cotun_trio.errors import UsageError
from cotun_trio.protocol.common_targets import check_common_targets
from cotun_trio.protocol.remote import Remote


@pytest.mark.parametrize(
    "texts",
    [
        ("R:1:web:80,proxy=v2", "R:2:web:80,proxy=v2,allow=::1"),
        ("R:1:web:80,proxy=v2", "R:2:web:81"),
        ("R:1:web:80,proxy=v2", "2:web:80", "3:web:80,proxy=v1"),
    ],
)
def test_they_may_have_all_else_in_their_own_way(texts: tuple[str, ...]) -> None:
    check_common_targets(map(Remote.parse, texts))


@pytest.mark.parametrize("other", ["R:2:web:80", "R:2:web:80,proxy=v1", "R:unix:/x:web:80"])
def test_they_have_the_same_header(other: str) -> None:
    with pytest.raises(UsageError, match="the same target"):
        check_common_targets(map(Remote.parse, ("R:1:web:80,proxy=v2", other)))
