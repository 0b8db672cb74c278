"""``python -m cotun_trio.workers``: the process that `cotun_trio.workers.spawn` starts."""

import sys

from cotun_trio import logs
from cotun_trio.system import unused_imports

if __name__ == "__main__":
    logs.never_wait()  # before anything can fail: no traceback may block its end
    unused_imports.leave_out()
    from cotun_trio.workers import worker

    worker.main(sys.argv[1:])
