"""What every command shares: a few options, and one clear line instead of a traceback."""

from __future__ import annotations

import errno
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from flr.cli import console
from flr.errors import FlrError, UnknownItemError

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]

#: What the shell expects of a program that Ctrl-C ended.
INTERRUPTED = 130
#: Commands that keep what is finished, and need no option to go on.
_GO_ON = {"baselines", "recommend", "study"}


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` with the option ``--debug`` and its errors turned into exit codes.

    What a user can mend is one line on stderr and exit code 2; Ctrl-C is 130; anything else is a bug of flr,
    named as such, and 1. With ``--debug`` errors are raised as they are.
    """

    @functools.wraps(command)
    def wrapper(*, debug: bool, **arguments: Any) -> None:
        try:
            command(**arguments)
        except KeyboardInterrupt:
            remedy = "; continue with the same command and --resume" if "resume" in arguments else ""
            if command.__name__ in _GO_ON and arguments["output"] is not None:
                remedy = "; the same command goes on"
            console.show_note(f"interrupted{remedy}")
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if debug or getattr(error, "errno", None) == errno.EPIPE:
                raise
            raise typer.Exit(_report(error)) from None

    hints = get_type_hints(command, include_extras=True)
    signature = inspect.signature(command)
    parameters = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in signature.parameters.items()
    ]
    parameters.append(inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug))
    wrapper.__annotations__ = {**hints, "debug": Debug}
    wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return wrapper


def _report(error: Exception) -> int:
    if isinstance(error, UnknownItemError) and error.other is not None:
        console.show_error(f"{error.problem} (to give {error.other}s instead, say --by {error.other})")
        return error.exit_code
    if isinstance(error, FlrError):
        console.show_error(str(error))
        return error.exit_code
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        console.show_error(f"the disk is full ({error.filename or 'no file named'}); free some space and try again")
        return FlrError.exit_code
    if isinstance(error, OSError) and error.filename is not None:
        console.show_error(f"{str(error.filename)!r}: {error.strerror}; check the path and its permissions")
        return FlrError.exit_code
    console.show_error(
        f"{type(error).__name__}: {error} - this is a bug in flr; run the command again with --debug for the "
        "traceback, and please report it"
    )
    return 1
