"""The steps of ``cotun-trio doctor`` on standard output, as text or JSON, and its exit status."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.client.doctor.examination import examine
from cotun_trio.client.doctor.steps import Outcome
from cotun_trio.daemon import STATUSES
from cotun_trio.units import format_duration, show_bytes

if TYPE_CHECKING:
    from cotun_trio.client.doctor.steps import Fact, Step
    from cotun_trio.errors import CotunError
    from cotun_trio.settings import ClientSettings, Route

WIDTH = 100
"""Columns of the text at the most."""
INTERRUPTED = 130
"""The exit status after SIGINT, as shells have it."""
UNREAD = 141
"""The same after SIGPIPE: the program that was to read the steps has ended."""


def run(settings: ClientSettings, *, idle: float, json_lines: bool) -> int:
    """Examine the way to each server of `settings`, print each step, and return the exit status.

    `idle` is the length of the pause in seconds.  Raises `UsageError`.
    """
    failures: list[CotunError] = []
    stopped = 0

    async def main() -> None:
        for route in settings.routes:
            report = _report(settings, route, json_lines=json_lines)
            failure = await examine(settings, report.add, route=route, idle=idle)
            report.end()
            failures.extend([failure] if failure else [])

    try:
        trio.run(main)
    except* KeyboardInterrupt:
        stopped = INTERRUPTED
    except* BrokenPipeError:
        stopped = UNREAD
        # Or the interpreter would try again at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if stopped or not failures:
        return stopped
    return next((status for kind, status in STATUSES.items() if isinstance(failures[0], kind)), 1)


def _report(settings: ClientSettings, route: Route, *, json_lines: bool) -> JsonReport | TextReport:
    several, url = len(settings.routes) > 1, str(route.server)
    if json_lines:
        return JsonReport(url if several else None)
    if route != settings.routes[0]:
        print()
    return TextReport(url)


class JsonReport:
    """A JSON object on a line for each step; with the URL of the server, where one is given."""

    def __init__(self, server: str | None) -> None:
        self._about = {} if server is None else {"server": server}

    def add(self, step: Step) -> None:
        """Print a step."""
        values = attrs.asdict(step)
        values["step"] = values.pop("name")
        values["seconds"] = round(step.seconds, 6)
        order = ("step", "outcome", "seconds", "facts", "meaning", "advice")
        print(json.dumps(self._about | {name: values[name] for name in order}), flush=True)

    def end(self) -> None:
        """Print nothing: the last line says how it ended."""


class TextReport:
    """Text for people: a line for each step, with its facts, and what it means below it."""

    def __init__(self, server: str) -> None:
        self._width = min(shutil.get_terminal_size().columns, WIDTH)
        self._count = dict.fromkeys(Outcome, 0)
        self._failed: Step | None = None
        self._not_tried: list[str] = []
        print(f"{server}\n", flush=True)

    def add(self, step: Step) -> None:
        """Print a step; those that were not tried are kept for the end."""
        if step.outcome is Outcome.SKIPPED and not step.facts:
            self._not_tried.append(step.name)
            return
        self._count[step.outcome] += 1
        if step.outcome is Outcome.FAILED:
            self._failed = step
        took = format_duration(round(step.seconds, 4))
        head = f"{step.outcome:<8} {step.name:<10} {took:>7}  "
        facts = dict(step.facts)
        error = facts.pop("error", "")
        self._print(head, "; ".join(show(name, value) for name, value in facts.items()))
        self._print(" " * 9 + "Error: ", str(error))
        label = "Note" if step.outcome is Outcome.OK else "Meaning"
        self._print(" " * 9 + f"{label}: ", step.meaning)
        self._print(" " * 9 + "Advice: ", step.advice)

    def _print(self, head: str, text: str) -> None:
        if not text and head.startswith(" "):
            return
        lines = textwrap.wrap(
            text,
            self._width,
            initial_indent=head,
            subsequent_indent=" " * len(head),
            break_long_words=False,
            break_on_hyphens=False,
        )
        print("\n".join(lines) or head.rstrip(), flush=True)

    def end(self) -> None:
        """Print how it ended."""
        warnings = self._count[Outcome.WARNING]
        noted = f", with {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
        if self._failed is None:
            said = f"A client gets through{noted}."
        else:
            said = f"It ends at the step {self._failed.name}{noted}."
            if self._not_tried:
                said += f"  Not tried: {', '.join(self._not_tried)}."
        print("\n" + textwrap.fill(said, self._width), flush=True)


def show(name: str, value: Fact) -> str:
    """Return a fact as text: its name, and its value with its unit."""
    words, _, unit = name.rpartition("_")
    if isinstance(value, bool):
        return f"{name.replace('_', ' ')}: {'yes' if value else 'no'}"
    if isinstance(value, list):
        return f"{name.replace('_', ' ')}: {', '.join(value)}"
    if isinstance(value, (int, float)) and unit == "seconds":
        return f"{words}: {format_duration(round(value, 4))}"
    if isinstance(value, int) and unit in ("bytes", "rate"):
        return f"{words}: {show_bytes(value)}{'/s' if unit == 'rate' else ''}"
    return f"{name.replace('_', ' ')}: {value}"
