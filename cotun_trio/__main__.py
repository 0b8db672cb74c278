"""``python -m cotun_trio``, and the console script ``cotun-trio``."""

from cotun_trio.system.first_process import end_by_sigterm
from cotun_trio.system.standard_descriptors import open_missing

open_missing()  # before the imports below open anything
end_by_sigterm()  # and before they take their time

from cotun_trio.cli import main  # noqa: E402

__all__ = ["main"]

if __name__ == "__main__":
    main()
