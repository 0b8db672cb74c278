"""Operations, answers and entries as Redis has them.

An operation is a JSON object for its script (`cotun_trio.fleet.redis_scripts`), and an answer is
what the script returns.  A node's statement is a hash:

======================= ============================================================================
Field                   Value
======================= ============================================================================
``#``                   its version; ``~`` in front while it is being made
``r SESSION PLACE``     a route: its epoch, and its user and group as JSON
``c KEY``               a count
======================= ============================================================================

An entry of the stream has its kind in the field ``k``; one of a changed statement has the hash's
fields, empty where they are gone.  The owner of a place is a string, ``EPOCH NODE SESSION MARK
USER``, with ``-`` for no mark.  Nodes of another version may write entries that this one does not
know: these are left out.  Anything else that cannot be read raises `ValueError`.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import attrs

from cotun_trio.fleet import entries, operations
from cotun_trio.fleet.entries import Entry
from cotun_trio.fleet.operations import Granted, Held, Outdated, Unknown
from cotun_trio.fleet.records import Holder, NodeFacts, Rank, Route
from cotun_trio.protocol.bounded_json import load_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cotun_trio.fleet.operations import Outcome
    from cotun_trio.fleet.records import Wish

Fields = list[str]
"""Names and values, by turns."""


# ---- what goes there


def renew(operation: operations.Renew) -> dict[str, Any]:
    """Return the operation as its script takes it; the same holds for the others below."""
    return {
        "id": operation.facts.id,
        "facts": _dump_facts(operation.facts),
        "announce": operation.announce,
        "epoch": operation.epoch,
    }


def write(operation: operations.Write) -> dict[str, Any]:
    """See `renew`."""
    return {
        "id": operation.node,
        "version": str(operation.version),
        "epoch": operation.epoch,
        "claims": [_claim(wish, known) for wish, known in operation.claims],
        "released": [
            {"f": f"r {session} {place}", "p": place, "s": str(session)}
            for place, session in operation.released
        ],
        "counts": [[f"c {key}", str(count)] for key, count in operation.counts.items()],
        "entries": [dump_entry(entry) for entry in operation.entries],
    }


def _claim(wish: Wish, known: bool) -> dict[str, Any]:
    return {
        "f": f"r {wish.session} {wish.place}",
        "v": json.dumps([wish.user, wish.group]),
        "p": wish.place,
        "h": f"{wish.session} {wish.mark or '-'} {wish.user}",
        "m": wish.mark,
        "shared": bool(wish.group),
        "known": known,
    }


def restate(operation: operations.Restate) -> dict[str, Any]:
    """See `renew`."""
    return {
        "id": operation.node,
        "version": operation.version,
        "routes": [
            {
                "f": f"r {route.session} {route.place}",
                "v": f"{route.epoch} {json.dumps([route.user, route.group])}",
                "p": route.place,
                "e": route.epoch,
                "h": f"{route.epoch} {operation.node} {route.session} {mark or '-'} {route.user}",
                "shared": bool(route.group),
            }
            for route, mark in operation.routes
        ],
        "counts": [[f"c {key}", str(count)] for key, count in operation.counts.items()],
        "first": operation.first,
        "last": operation.last,
    }


def dump_entry(entry: Entry) -> Fields:
    """Return an entry that a node makes itself; scripts make the others."""
    match entry:
        case entries.Asked(node, place, epoch):
            return ["k", "asked", "n", node, "p", place, "e", str(epoch)]
        case entries.Kept(place, epoch):
            return ["k", "kept", "p", place, "e", str(epoch)]
        case entries.Revoked(user):
            return ["k", "revoked", "u", user]
        case entries.Barred(source, seconds):
            return ["k", "barred", "s", source, "t", repr(float(seconds))]
        case entries.Lifted(source):
            return ["k", "lifted", "s", source]
    raise AssertionError(entry)


def _dump_facts(facts: NodeFacts) -> str:
    return json.dumps(attrs.asdict(facts))


# ---- what comes from there


def renewed(answer: Any) -> operations.Renewed:
    """Read the answer of a script; the same holds for the others below."""
    version, epoch, position, life = (_text(each) for each in answer)
    return operations.Renewed(_version(version), int(epoch), int(position), life)


def written(answer: Any) -> operations.Written | Outdated:
    """See `renewed`."""
    kind, version, *rest = (_text(each) for each in answer)
    if kind == "outdated":
        return Outdated(int(version.lstrip("~")))
    epoch, *outcomes = rest
    return operations.Written(int(version), int(epoch), tuple(_outcome(each) for each in outcomes))


def _outcome(text: str) -> Outcome:
    kind, _, rest = text.partition(" ")
    if kind == "granted":
        return Granted(int(rest))
    if kind == "held":
        return Held(load_holder(rest))
    if kind == "unknown":
        return Unknown()
    raise ValueError(kind)


def retold(answer: Any) -> operations.Retold | Outdated:
    """See `renewed`."""
    kind, *rest = (_text(each) for each in answer)
    if kind == "outdated":
        return Outdated(int(rest[0].lstrip("~")))
    return operations.Retold(
        tuple(
            (place, load_holder(holder))
            for place, holder in zip(rest[::2], rest[1::2], strict=True)
        )
    )


def surveyed(answer: Any) -> operations.Surveyed:
    """See `renewed`."""
    life, position, epoch, nodes, bars, revoked = answer
    words = [_text(each) for each in nodes]
    return operations.Surveyed(
        _text(life),
        int(_text(position)),
        int(_text(epoch)),
        tuple(
            (load_facts(facts), _version(version))
            for facts, version in zip(words[::2], words[1::2], strict=True)
        ),
        {source: float(seconds) for source, seconds in _pairs(bars)},
        {user: int(float(stamp)) for user, stamp in _pairs(revoked)},
    )


def statement(answer: Mapping[Any, Any]) -> operations.Statement:
    """Read the hash of a statement."""
    version, routes, counts = 0, [], {}
    for name, value in answer.items():
        field, text = _text(name), _text(value)
        if field == "#":
            version = _version(text)
        elif field.startswith("c "):
            counts[field[2:]] = int(text)
        else:
            routes.append(_load_route(field, text))
    return operations.Statement(version, tuple(routes), counts)


def load_entry(answer: Mapping[Any, Any]) -> Entry:
    """Read the fields of an entry; an `Entry` of no kind is one of a later version."""
    fields = {_text(name): _text(value) for name, value in answer.items()}
    kind = fields.pop("k")
    match kind:
        case "node":
            return entries.NodeChanged(load_facts(fields["f"]), _version(fields["v"]))
        case "gone":
            return entries.NodeGone(fields["n"])
        case "changed":
            return _load_changed(fields)
        case "restated":
            return entries.Restated(fields["n"], int(fields["v"]))
        case "asked":
            return entries.Asked(fields["n"], fields["p"], int(fields["e"]))
        case "kept":
            return entries.Kept(fields["p"], int(fields["e"]))
        case "revoked":
            return entries.Revoked(fields["u"], int(fields["t"]))
        case "barred" | "lifted" as kind:
            return _load_bar(kind, fields)
    return Entry()


def _load_bar(kind: str, fields: dict[str, str]) -> entries.Barred | entries.Lifted:
    if kind == "lifted":
        return entries.Lifted(fields["s"])
    return entries.Barred(fields["s"], float(fields["t"]))


def _load_changed(fields: dict[str, str]) -> entries.Changed:
    opened, closed, counts = [], [], {}
    node, version = fields.pop("n"), int(fields.pop("v"))
    for name, value in fields.items():
        if name.startswith("c "):
            counts[name[2:]] = int(value)
        elif value:
            opened.append(_load_route(name, value))
        else:
            _, session, place = name.split(" ", 2)
            closed.append((place, int(session)))
    return entries.Changed(node, version, tuple(opened), tuple(closed), counts)


def _load_route(field: str, value: str) -> Route:
    _, session, place = field.split(" ", 2)
    epoch, _, rest = value.partition(" ")
    user, group = load_json(rest)
    if not isinstance(user, str) or not isinstance(group, str):
        raise ValueError(rest)
    # There are far more routes than users: their names are there once.
    return Route(place, int(session), sys.intern(user), sys.intern(group), int(epoch))


def load_holder(text: str) -> Holder:
    """Read the owner of a place."""
    epoch, node, session, mark, user = text.split(" ", 4)
    return Holder(Rank(int(epoch), node), int(session), user, "" if mark == "-" else mark)


def load_facts(text: str) -> NodeFacts:
    """Read a node's description; what a later version adds is left out."""
    values = load_json(text)
    if not isinstance(values, dict):
        raise ValueError(text)
    kinds = {"load": int, "draining": bool}
    facts = {field.name: values[field.name] for field in attrs.fields(NodeFacts)}
    for name, value in facts.items():
        if type(value) is not kinds.get(name, str):
            raise ValueError(name)
    return NodeFacts(**facts)


def _version(text: str) -> int:
    return -1 if text.startswith("~") else int(text)


def _text(word: Any) -> str:
    if isinstance(word, bytes):
        return word.decode(errors="surrogateescape")
    return str(word)


def _pairs(words: Sequence[Any]) -> list[tuple[str, str]]:
    texts = [_text(each) for each in words]
    return list(zip(texts[::2], texts[1::2], strict=True))
