"""Make the sdist, the wheel and the single file, each with a bill of materials: ``make dist``."""

from __future__ import annotations

import subprocess
import sys

from scripts.packaging import environment, python_packages, reproducible, sbom, single_file


def main() -> int:
    """Return the exit status."""
    try:
        print("building the sdist and the wheel ...", flush=True)
        sdist, wheel = python_packages.build()
        for artefact in (sdist, wheel):
            sbom.write_for_python_package(artefact)
        print(f"building {single_file.TARGET.name} ...", flush=True)
        carried = single_file.build(wheel)
        sbom.write(single_file.TARGET, carried=carried)
    except subprocess.CalledProcessError as error:
        print(reproducible.failure(error), file=sys.stderr)
        return 1
    except environment.UnusableError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
