"""The log: lines that begin with their context, and an output that nobody has to read.

* `context`: a logger whose lines begin with ``key=value`` pairs, which nest.
* `limits`: what a peer can have us log in a second; `rates`: how that is counted.
* `formats`: text, JSON, and the journal's priorities.
* `configuration`: what the program's log looks like and where it goes.
* `nonblocking`: writing to a descriptor without ever waiting for its reader.
* `output`: lines on their way to such a descriptor; those without room are counted.
* `standard_error`: the same as a text stream, for everything that a program writes there.

The loggers are those of the standard library, below ``cotun``.  As a library we configure nothing:
whoever takes records by a handler of their own finds the context in the message, and as a mapping
in the record's ``context``.
"""

from cotun_trio.logs.configuration import configure
from cotun_trio.logs.context import ROOT, Context, get_logger
from cotun_trio.logs.formats import has_colours, is_journal
from cotun_trio.logs.limits import Limits
from cotun_trio.logs.standard_error import never_wait, wait_for_reader, write_what_waits

__all__ = [
    "ROOT",
    "Context",
    "Limits",
    "configure",
    "get_logger",
    "has_colours",
    "is_journal",
    "never_wait",
    "wait_for_reader",
    "write_what_waits",
]
