"""``cotun-trio doctor``: the way to a server, step by step, by the client's own code.

* `examination`: all steps in their order, and the end of the run.
* `steps`: a step, and how it is recorded; `step_names`: the names that there are.
* `addresses`: the name, and each of its addresses by TCP.
* `certificates`: a server's certificate, as facts.
* `visitor`: a session without remotes.
* `trials`: the session at work: pings, a pause, an upload.
* `meanings`: what each failure means, and what would help.
"""
