"""The log: lines that begin with their context, and an output that waits for no reader.

* `context`: a logger whose lines begin with ``key=value`` pairs, which nest.
* `events`: the happenings that administrators want to hear of.
* `limits`: limits on the lines that a peer can have us log in a second.
* `rates`: how these lines are counted.
* `formats`: text, JSON, and the journal's priorities.
* `configuration`: the form of the program's log, and its output.
* `nonblocking`: writing to a descriptor without ever waiting for its reader.
* `output`: lines on their way to such a descriptor; lines without room are counted.
* `standard_error`: the same as a text stream, for everything that a program writes there.

The loggers are those of the standard library, below ``cotun``.  As a library we configure nothing:
a handler of the embedding program finds the context in the message, and as a mapping in the
record's ``context``.
"""

from cotun_trio.logs.configuration import LEVELS, Level, configure, level, set_level
from cotun_trio.logs.context import ROOT, Context, get_logger
from cotun_trio.logs.formats import has_colours, is_journal
from cotun_trio.logs.limits import Limits
from cotun_trio.logs.standard_error import never_wait, wait_for_reader, write_what_waits

__all__ = [
    "LEVELS",
    "ROOT",
    "Context",
    "Level",
    "Limits",
    "configure",
    "get_logger",
    "has_colours",
    "is_journal",
    "level",
    "never_wait",
    "set_level",
    "wait_for_reader",
    "write_what_waits",
]
