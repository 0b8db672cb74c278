"""``python -m cotun_trio.workers``: the process that `cotun_trio.workers.spawn` starts."""

import sys

from cotun_trio import unused_imports

unused_imports.leave_out()

from cotun_trio.workers.worker import main  # noqa: E402

if __name__ == "__main__":
    main(sys.argv[1:])
