"""The version, which is that of the installed package."""

from importlib.metadata import version

__version__ = version("cotun-trio")
