"""The groups of options in ``--help``, in their order."""

from __future__ import annotations

from cyclopts import Group

CONNECTION = Group.create_ordered("Connection")
HOST_KEY = Group.create_ordered("Host key")
USERS = Group.create_ordered("Users")
RIGHTS = Group.create_ordered("Rights of clients")
LIMITS = Group.create_ordered("Limits")
FLEET = Group.create_ordered("Fleet")
TLS = Group.create_ordered("TLS")
HTTP = Group.create_ordered("HTTP")
PROCESS = Group.create_ordered("Process")
LOG = Group.create_ordered("Log")
