"""Carrying: between the sockets, the datagrams and the programs at both ends, and the channels.

* `forwarder`: the connections of one session, with their limits and rights; `carry`: the choice of
  the kind that each one is.
* `streams`: TCP and Unix sockets; `relay`: one of them beside one channel; `turn_length`: how much
  it moves before other tasks have their turn; `splice`: two channels of two sessions, joined.
* `proxy_entry`, `socks_exit`: the two ends of the proxy; `proxy_requests`: receiving what its
  clients want; `stdio`: standard input and output.
* `udp_listener`, `udp_exit`: the two ends of UDP; `datagrams`: the messages between them;
  `association`: UDP for SOCKS clients; `udp_flow`: one source; `udp_flows`: all, with limits;
  `udp_addresses`: those of a target; `segments`: many datagrams in one system call; `drops`:
  datagrams that were dropped.
* `listener`: the listening end of a remote; `visitor`: who connects to it; `admission`: who may;
  `per_minute`: those who may not, in the log; `places`: where remotes listen and targets are.
* `in_process`: connections that end in this process.
* `flows`: all that runs in a session; `quota`: the limit for all sessions; `traffic`, `counted`:
  counters for each remote.
* `open_session`: the session, as all of these see it.
"""
