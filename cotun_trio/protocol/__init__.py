"""What the two ends say to each other inside SSH, and what it means.  No I/O, no clock, no Trio.

Four nouns explain the package:

* A **dialect** is one of the two spellings of the protocol: chisel's, and that of its fork cotun.
  They differ in a few names only (`dialect`).
* A **remote** is one forward as the user writes it: who listens where, and where each connection
  goes (`remote`).  It is made of hosts, ports and paths (`addresses`), and has options about its
  visitors (`remote_options`, `networks`, `common_targets`).  Its text is split into words
  (`remote_words`), and with ranges of ports it is several remotes (`port_ranges`).
* A **target** is its far half alone, as a channel open carries it (`target`), perhaps with the
  visitor whom the connection is from behind it (`visitor_address`).  What runs in the
  channel then is the connection's own business, except for two kinds: datagrams
  (`datagram_codec`), which Go's gob puts one behind the other (`gob`, `gob_encoder`, `gob_usual`),
  or a form of our own (`datagram_runs`); and connections that say by SOCKS where they want to go
  (`socks5`, which is read in `steps`).
* The **config request** is the first thing a client says after login: its version, and the remotes
  that it asks for (`config`).  It is JSON (`peer_json`, `bounded_json`), and so is a server's
  answer to a client of our own kind (`config_reply`).  Else its answer is a `refusal`.  In both,
  two of our kind name what they can do beyond this page's first version (`extensions`).

Clients of the proxy may say where they want to go in other ways, too (`socks4`, `http_connect`).
The listener tells them apart (`proxy_handshake`), and makes the same of all (`proxy_request`).

Some are for what comes before all that: the PROXY header of a balancer (`proxy_header`), which says
whom a connection is from and to (`endpoints`); a TLS ClientHello (`client_hello`); the URL of a
proxy (`proxy_url`) and the login there (`proxy_login`, `http_challenges`, `http_digest`); and an
HTTP answer that is no upgrade (`http_answer`).  `http_fault` makes text of errors of HTTP.  One is
for variables of the `environment`, whose names the Go programs have made.


The wire protocol
=================

All of it on one page, as the Go programs chisel 1.11 and 1.12 speak it, and cotun, a fork.  The
parts that are ours alone are marked *ours*: no Go peer sees them.  A tunnel is four layers, each
inside the one before::

    TCP (or TLS)  >  WebSocket  >  SSH  >  one SSH channel for each forwarded connection

The two dialects differ in three names, and in nothing else:

=======  ==========================  ==========================================  ============
Dialect  ``Sec-WebSocket-Protocol``  SSH version lines                           Channel type
=======  ==========================  ==========================================  ============
chisel   ``chisel-v3``               ``SSH-chisel-v3-client``, ``…-server``      ``chisel``
cotun    ``costrict-v3``             ``SSH-costrict-v3-client``, ``…-server``    ``cotun``
=======  ==========================  ==========================================  ============

A server takes both.  A client tries chisel's first, then cotun's where the answer to the upgrade is
not 101, and begins with the one that worked from then on.

**Upgrade** (`cotun_trio.websocket.handshake`, `cotun_trio.http.front`).  ``GET`` with the path of
the server's URL, ``/`` if it has none; ``Upgrade: websocket``, ``Sec-WebSocket-Version: 13``, and
exactly one token in ``Sec-WebSocket-Protocol``: a Go server compares the whole value, so two tokens
are refused.  A Go server's 101 does not repeat the token, ours does; a client cannot insist on it.
There are no WebSocket extensions.  The head of a request may have 8 KiB (16 KiB from a trusted
proxy, 64 KiB with a back end), that of its answer 8 KiB.  A request with another token, or for a
path that is not ``--path``, is ordinary HTTP.

**Bytes** (`cotun_trio.websocket.frames`).  Binary messages, whose boundaries mean nothing.  A
client masks, a server does not.  We take messages of up to 512 KiB before the login, and 1 MiB
after it, in any number of fragments: a chisel client sends fragments of up to 4096 bytes.  Go 1.12
takes 512 KiB.

**SSH** (`cotun_trio.ssh.engine`, `cotun_trio.ssh.packetizer`).  The version lines are those above,
of up to 255 bytes and with no line before them.  *Ours* end in a comment, ``" cotun-trio"`` (RFC
4253 section 4.2): by it, two of us know each other, and use what is marked *ours*.  We offer:

* key exchange: ``mlkem768x25519-sha256``, ``curve25519-sha256`` and the same as
  ``curve25519-sha256@libssh.org``, with strict key exchange;
* ciphers: ``aes128-gcm@openssh.com``, ``aes256-gcm@openssh.com``;
* host keys: ECDSA (P-256 where the server makes one), Ed25519, RSA with SHA-2.

New keys can be asked for by either end, at any time; until they are there, nothing but the key
exchange may be sent.  We ask after 16 GiB or 2³¹ packets.  We take packets of 35,000 bytes before
the login and 256 KiB after it (Go: 256 KiB), and send up to 32 KiB of data in each.

The client knows the server by the **fingerprint** of its host key: SHA-256 of the public key (the
blob of RFC 4253 section 6.6), in standard base64 with padding, 44 characters; or MD5, in 16 pairs
of hex digits with colons, as old versions show it (`cotun_trio.access.fingerprints`).

**Login** (RFC 4252).  Method ``password``, with a user that may be the empty string; Go tries
``none`` first, and is refused.  Three wrong passwords end the connection.  A server without users
takes any.

**Config request** (`config`).  The client's first global request, which the server waits for 10 s
after the login: type ``config``, want-reply, and as payload the bytes of a JSON object, raw, not as
an SSH string::

    {"Version": "1.12.0",
     "Remotes": [{"LocalHost": "0.0.0.0", "LocalPort": "3000", "LocalProto": "tcp",
                  "RemoteHost": "127.0.0.1", "RemotePort": "3000", "RemoteProto": "tcp",
                  "Socks": false, "Reverse": false, "Stdio": false}],
     "CotunTrio": {"Identity": "5f2a…", "Extensions": ["datagram-runs", "visitors"]}}

Ports are strings.  Names of fields are matched without regard to case, unknown ones are ignored,
and ``null`` is as if the field were missing; a client without remotes sends ``"Remotes": null``.
*Ours*:

* ``Identity`` in ``CotunTrio``: up to 64 hex digits by which a client that comes back takes its
  reverse listeners over.  Who sends it gets a reply with addresses.
* ``Extensions`` in ``CotunTrio``, up to 64 names: what the client can do beyond this
  (`extensions`).  Unknown ones are ignored.
* ``Nodes`` in ``CotunTrio``, up to 64 identities of servers, where there are any: a client with
  several connections names the servers that it has sessions with.  One of these refuses, and
  changes nothing.
* ``unix:/path`` in the field of a host, with an empty port.
* ``SocksAuth``, in a reverse SOCKS remote: the ``user:password`` that the server asks for.
* ``Allow``, in a reverse remote: the networks whose visitors the server lets in, as in
  ``["10.0.0.0/8", "::1/128"]``.  It needs the extension ``visitors``.

**Reply** (`config_reply`).  Yes is request-success with an *empty* payload, since a Go client takes
any payload for an error.  *Ours* has one: ``{"Addresses": ["0.0.0.0:2222"], "Extensions":
["datagram-runs"], "Node": "9c1e…"}``.  The addresses are where the server listens for each reverse
remote, in turn; the extensions, which may be missing, are those of the client's that the server
has, too, and are used in the session from then on.  The node is the server's identity, up to 64 hex
digits that are random for each run of it, and the same in all its workers; older versions do not
tell it.  No is request-failure, with the reason as raw text; then the server ends the connection
(`refusal`).  A no is final, unless the text is Go's ``server: Server cannot listen on …``, or
*ours* has a NUL and ``not now`` behind the text: then the client asks again later.  Behind a NUL
and ``same server``, the server is one of the client's ``Nodes``.

**Channels** (RFC 4254 section 5; `cotun_trio.ssh.connection`, `cotun_trio.ssh.channel`).  One for
each connection, opened by the end that accepted it: by the client, or for a reverse remote by the
server.  The type is the dialect's, and peers take any; the type-specific data are the raw bytes of
a `target`::

    host:port      host:port/udp      socks      unix:/path (ours)

*Ours*: with the extension ``visitors``, the addresses of the visitor may stand behind it, of the
connection's source and of the listener (`visitor_address`).  Words by other names are skipped::

    localhost:22 NUL from=198.51.100.7:56324 NUL to=203.0.113.1:2222

A server sends them for reverse remotes with one TCP or Unix target.  A client does not tell a
server who its own visitors are.

The window is 2 MiB at first, a packet has up to 32 KiB; *our* windows grow on long links
(`cotun_trio.ssh.window`).  Open failures have the codes 1 (not allowed), 2 (the dial failed) and 4
(too many).  EOF ends one direction, CLOSE both.  After a CLOSE nothing more may be sent on the
channel, not even a window adjust: Go drops the whole connection for it.  A CLOSE without an EOF is
a good end from Go 1.11; from one of *ours* it means that the stream broke off.

With ``socks``, a SOCKS5 conversation follows in the channel (`socks5`): the dialling end is the
SOCKS server, and asks for no login.  *Ours*: the listening end also takes SOCKS 4, 4a and HTTP's
CONNECT, and turns each into that; the datagrams of a SOCKS client go through channels to
``host:port/udp``.

With ``/udp``, there is one channel for each UDP remote, and in it a stream of Go's ``encoding/gob``
in each direction (`gob`): values of ``struct { Src string; Payload []byte }``.  ``Src`` is the
address that the datagram came from, or is for; the dialling end has a socket for each, until
nothing has gone either way for 15 s.  A message of the channel may have any number of values, and
parts of them.

*Ours*: with the extension ``datagram-runs``, the stream consists of records in place of gob
(`datagram_runs`), in all ``/udp`` channels that are opened after the reply.  A record is three
16-bit numbers, big-endian, and bytes: the number of a flow (0 to 1023), a size, and a count.  Count
datagrams of that size follow, all of that flow; or with the count 0 a text of that size, which is
the flow's source from then on, as in ``Src``::

    0000 0003 0000 613a31          flow 0 is "a:1"
    0000 0002 0003 7878 7979 7a7a  three datagrams of it: "xx", "yy", "zz"

**Global requests** (RFC 4254 section 4).  All want a reply, which has a raw payload.  Unknown ones
are answered by request-failure.

=====================  ====================  ==========  ==========================================
Type                   From                  Payload     Reply
=====================  ====================  ==========  ==========================================
``config``             the client, once      JSON        see above
``ping``               either end            empty       success, ``pong``
``config@cotun-trio``  the client (*ours*)   JSON        as for ``config``, but a refusal changes
                                                         nothing.  These remotes take the place of
                                                         those before; what is the same goes on
``drain@cotun-trio``   either end (*ours*)   the reason  success, empty.  The peer opens nothing
                                                         more in this session, which ends when all
                                                         that is open has ended
=====================  ====================  ==========  ==========================================

**Keepalive**.  Each end sends a ``ping`` every ``--keepalive`` (25 s), and ends the session where
no answer comes in as much time.  To us any answer will do; Go wants ``pong``, or an empty one.
WebSocket pings are answered, and not sent.

**End**.  An SSH DISCONNECT, with code 2 (a broken rule), 11 (everything else), 12 (too many
sessions of a user) or 14 (wrong passwords), then a WebSocket close frame.  A chisel client that is
terminated sends no close frame.  To a Go client, a server of *ours* ends the reason of an open
session's DISCONNECT with ``: EOF``: the UDP remotes of Go tell errors apart by their text, and one
that does not end like that, such as a close frame's, ends the whole client.  So does a datagram
that comes while there is no tunnel.

**Go 1.11 and 1.12** speak the same protocol, with each other and with us.  Their ends differ:

====================================  =====================================  =======================
What                                  Go 1.11                                Go 1.12
====================================  =====================================  =======================
A TCP target that cannot be reached   the channel opens, and closes          an open failure, code 2
One direction ends (EOF)              both are closed                        the other one goes on
A ping that nobody answers            is waited for without end              ends the session
A WebSocket message of over 512 KiB   is taken                               is refused
The session of a UDP remote ends      the client ends within a second        see **End**
====================================  =====================================  =======================

How to add a global request of your own is told in README, "Working on it".
"""
