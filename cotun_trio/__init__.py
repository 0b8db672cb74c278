"""A fast TCP/UDP tunnel over HTTP, secured by SSH, built on Trio; wire-compatible with chisel."""

from importlib.metadata import version as _version

__version__ = _version("cotun-trio")

__all__ = ["__version__"]
