"""What a server has to know for the visitors of a client's reverse remotes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.errors import ConfigRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cotun_trio.logs import Context
    from cotun_trio.protocol.remote import Remote


def check_visitors(remotes: Iterable[Remote], log: Context, *, told: bool) -> None:
    """See whether a server that tells of visitors, or does not, can do its part of `remotes`.

    Raises `ConfigRefused` where it would let everybody in; warns where targets will not hear whom
    a connection is from.
    """
    if told:
        return
    for remote in remotes:
        if remote.reverse and remote.options.allow:
            raise ConfigRefused(f"{remote}: this server lets in everybody: it is too old for allow")
        if remote.reverse and remote.options.proxy:
            log.warning(
                "%s: this server does not tell who connects: its PROXY headers have no addresses",
                remote,
            )
