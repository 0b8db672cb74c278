"""``cotun-trio completion``: the script with which a shell completes our command lines."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter

from cotun_trio.cli.app import app
from cotun_trio.errors import UsageError

NOTES = """
A shell reads the script when it starts:

    bash  source <(cotun-trio completion bash)   in ~/.bashrc
    zsh   source <(cotun-trio completion zsh)    in ~/.zshrc, after compinit
    fish  cotun-trio completion fish | source    in config.fish

The script does not run cotun-trio, so make it again after an update.  Options
are completed with two hyphens.
"""

Shell: TypeAlias = Literal["bash", "zsh", "fish"]


@app.command(help_epilogue=NOTES, usage="Usage: cotun-trio completion SHELL")
def completion(
    shell: Annotated[Shell, Parameter(name="SHELL", help="The shell that reads it.")], /
) -> int:
    """Print a script with which a shell completes commands, options and files."""
    try:
        print(script(shell), end="", flush=True)
    except OSError as error:
        raise UsageError(f"cannot print the script: {error.strerror}") from None
    return 0


def script(shell: Shell) -> str:
    """Return the completion script of a shell, which ends with a line's end.

    cyclopts makes it.  Our paths are of type str, for which it has no files in bash and zsh: here
    they complete the names of files for each value that is not one of a few, as fish does.
    """
    made = app.generate_completion(prog_name="cotun-trio", shell=shell).rstrip("\n") + "\n"
    if shell == "bash":
        return made.replace("\ncomplete -F ", "\ncomplete -o default -F ")
    if shell == "zsh":
        return (
            re.sub(_VALUE_OF_ANY_KIND, r"\1:_files'\2", made, flags=re.MULTILINE | re.VERBOSE)
            + _ZSH_START
        )
    return made


_VALUE_OF_ANY_KIND = r"""
    ^(\ *'
      (?: \*?--?[\w-]+\[ .* \]:[\w-]+           # an option, a message for its value, no action
        | (?:\d+|\*) : (?:[^:\\\n] | \\.)* )    # the same for a positional argument
    )'(\ *\\?)$
    """
"""A specification for zsh's ``_arguments`` that says nothing of how to complete the value."""
_ZSH_START = """
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _cyclopts_cotun-trio "$@"
else
  compdef _cyclopts_cotun-trio cotun-trio
fi
"""
"""What cyclopts leaves to the name of a file in ``$fpath``: the script can be sourced as well."""
