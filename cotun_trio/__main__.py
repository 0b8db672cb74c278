"""``python -m cotun_trio``, and the console script ``cotun-trio``."""

from cotun_trio.system.standard_descriptors import open_missing

open_missing()  # before the imports below open anything

from cotun_trio.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
