"""The ``__main__.py`` of the single file ``cotun-trio.pyz``; `scripts.packaging.single_file` puts
it there.

It is in front of shiv's own beginning, which shows a traceback where the file cannot run: it holds
compiled modules for one version of Python and one kind of machine, and is unpacked before it runs.
Old versions of Python have to be able to read it, too.
"""

import importlib
import os
import sys

BUILT_FOR = "@BUILT_FOR@"


def running() -> str:
    """Return the Python that this is, and its machine, in words."""
    system = os.uname()
    return f"Python {sys.version_info[0]}.{sys.version_info[1]} on {system[0]} {system[4]}"


def main() -> None:
    """Check that this can run here, unpack it, and run it."""
    if running() != BUILT_FOR:
        sys.exit(
            f"cotun-trio: this file was built for {BUILT_FOR}, and this is {running()}: run it "
            "with the former, or use pip install cotun-trio"
        )
    shiv = vars(importlib.import_module("_bootstrap"))
    find, unpack = shiv["cache_path"], shiv["extract_site_packages"]

    def find_or_say(*args: object) -> object:
        try:
            place = find(*args)
            place.exists()
        except (OSError, RuntimeError) as error:  # the latter where there is no home directory
            give_up(os.environ.get("SHIV_ROOT", "~/.shiv"), error)
        return place

    def unpack_or_say(archive: object, place: object, *more: object) -> None:
        try:
            unpack(archive, place, *more)
        except OSError as error:
            give_up(str(place), error)

    shiv["cache_path"], shiv["extract_site_packages"] = find_or_say, unpack_or_say
    shiv["bootstrap"]()


def give_up(place: str, error: Exception) -> None:
    """End, because the directory `place` cannot be used."""
    reason = getattr(error, "strerror", None) or error
    sys.exit(
        f"cotun-trio: this file is unpacked into {place} before it runs, and that cannot be "
        f"written ({reason}): set SHIV_ROOT to a directory that can"
    )


if __name__ == "__main__":
    main()
