"""``python -m cotun_trio``, and the console script ``cotun-trio``."""

from cotun_trio.cli import main

if __name__ == "__main__":
    main()
