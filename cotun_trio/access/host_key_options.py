"""The options that say which host key a server has, and the one that makes a new key.

``--keyfile`` wins over ``--key``, wherever either is given; without them every run has a key of its
own.  ``--keygen`` writes the key of ``--key`` or its variable, if there is a seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotun_trio.access.ck_keys import encode_ck_key
from cotun_trio.access.host_keys import as_host_key, generate_host_key, generate_private_key
from cotun_trio.access.key_files import load_host_key
from cotun_trio.access.seeded_keys import key_from_seed
from cotun_trio.errors import UsageError
from cotun_trio.protocol.environment import find_variable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cotun_trio.access.host_keys import HostKey

SEED_VARIABLE = "KEY"
FILE_VARIABLE = "KEY_FILE"
"""Without their prefixes; see `cotun_trio.protocol.environment`."""


def choose_host_key(
    *,
    seed: str | None,
    keyfile: str | None,
    environment: Mapping[str, str],
    warn: Callable[[str], None],
) -> HostKey:
    """Return the host key that ``--key`` and ``--keyfile``, or their variables, ask for.

    An empty text counts as not given.  `warn` is called with each line that the user should read.
    Raises `UsageError` that names the option or the variable.
    """
    seed_from, seed = _given("--key", seed, SEED_VARIABLE, environment)
    file_from, keyfile = _given("--keyfile", keyfile, FILE_VARIABLE, environment)
    if keyfile:
        if seed:
            warn(f"{seed_from} is ignored: {file_from} names the key")
        try:
            return load_host_key(keyfile, warn)
        except UsageError as error:
            raise UsageError(f"{file_from}: {error}") from None
    if seed:
        warn(
            f"{seed_from} is deprecated: a guessed seed is a stolen key.  Run 'cotun-trio "
            "server --key SEED --keygen FILE' once, which keeps the fingerprint, and then give "
            "--keyfile FILE in its place"
        )
        return as_host_key(key_from_seed(seed))
    return generate_host_key()


def _given(
    option: str, text: str | None, variable: str, environment: Mapping[str, str]
) -> tuple[str, str | None]:
    """Return the name of the option or the variable that gives a text, and the text."""
    return (option, text) if text else find_variable(environment, variable)


def make_key(seed: str | None, environment: Mapping[str, str]) -> tuple[str, HostKey, str | None]:
    """Return a new ``ck-`` key, or that of a seed, as text and as a host key.

    The third value is the name of the option or the variable with the seed; None without any.
    """
    seed_from, seed = _given("--key", seed, SEED_VARIABLE, environment)
    key = key_from_seed(seed) if seed else generate_private_key()
    return encode_ck_key(key), as_host_key(key), seed_from if seed else None
