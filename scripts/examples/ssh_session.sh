#!/bin/sh
# One SSH session through the tunnel, by a stdio remote: no port is opened, on either side.
#
#     ssh_session.sh https://tunnel.example.com [SSH OPTION...] user@host [COMMAND...]
#
# For good, put the ProxyCommand into ~/.ssh/config; what else the client needs (--auth,
# --fingerprint) goes there, too.
set -eu
url=$1
shift
exec ssh -o "ProxyCommand=${COTUN_TRIO:-cotun-trio} client $url stdio:%h:%p" "$@"
