"""A fast TCP/UDP tunnel over HTTP, secured by SSH, built on Trio; wire-compatible with chisel."""

__all__ = ["__version__"]

__version__: str


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Only when somebody asks: importlib.metadata takes a twentieth of the time to start.
    from importlib.metadata import version

    globals()["__version__"] = version("cotun-trio")
    return globals()["__version__"]  # type: ignore[no-any-return]
