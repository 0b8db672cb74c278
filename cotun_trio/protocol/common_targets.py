"""Reverse remotes with the same target: by that alone, a client knows what a channel is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cotun_trio.protocol.remote import Remote
    from cotun_trio.protocol.target import Target


def check_common_targets(remotes: Iterable[Remote]) -> None:
    """Raise `UsageError` where two reverse remotes have different headers for the same target."""
    found: dict[Target, Remote] = {}
    for remote in remotes:
        if remote.reverse:
            other = found.setdefault(remote.target, remote)
            if other.options.proxy != remote.options.proxy:
                raise UsageError(
                    f"{other} and {remote} have the same target: both take the same proxy="
                )
