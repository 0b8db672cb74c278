"""Ask whether what the lock has is known to be vulnerable: ``make audit``.

pip-audit asks.  What could not be asked about is a failure, too: the status is 0 only where all is
known to be well.  ``make audit ARGS="--vulnerability-service=osv"`` asks another service.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from scripts.packaging import lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def ask(words: Sequence[str]) -> list[str]:
    """Return what is wrong, a line each; `words` are options of pip-audit's."""
    command = [
        *(sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off"),
        *("--disable-pip", "--require-hashes", f"--requirement={lock.REQUIREMENTS}", *words),
    ]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        return [f"the service could not be asked: {said[-1]}"]
    found = list(problems(answer["dependencies"]))
    if done.returncode and not found:
        found.append(f"pip-audit ended with status {done.returncode}: {done.stderr.strip()}")
    return found


def problems(dependencies: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield what is wrong in the answer of pip-audit."""
    unknown = [each["name"] for each in dependencies if "skip_reason" in each]
    if unknown:
        yield f"the service knows nothing about: {', '.join(unknown)}"
    for each in dependencies:
        for known in each.get("vulns", ()):
            names = ", ".join(dict.fromkeys([known["id"], *known.get("aliases", ())]))
            fixed = ", ".join(known["fix_versions"]) or "no version yet"
            yield f"{each['name']} {each['version']}: {names}; fixed in {fixed}"


def main(words: Sequence[str]) -> int:
    """Return the exit status."""
    if found := ask(words):
        print(f"{lock.REQUIREMENTS.name} has not passed:", *found, sep="\n  ", file=sys.stderr)
        return 1
    print(f"Nothing is known against what {lock.REQUIREMENTS.name} has.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
