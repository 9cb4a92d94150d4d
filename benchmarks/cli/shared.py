"""What all verbs share: errors of one line, runs that can be resumed after a stop, options."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from benchmarks.names import split_names

if TYPE_CHECKING:
    from benchmarks.run.runner import Outcome

_MOST_ERRORS = 20

# An epilog keeps its line breaks after \b.
EXAMPLE = "\b\nExample:\n  "


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # whoever reads the output has closed it: click knows what to do
        raise
    except (ValueError, OSError) as error:
        lines = str(error).splitlines()
        for line in lines[:_MOST_ERRORS]:
            click.echo(f"Error: {line}", err=True)
        if len(lines) > _MOST_ERRORS:
            click.echo(f"Error: and {len(lines) - _MOST_ERRORS:,} more", err=True)
        raise SystemExit(2) from None
    except Exception as error:
        own_code = sys.modules.get("edgewise.own_code")  # without it there is none
        if own_code is None or not isinstance(error, own_code.OwnCodeError):
            raise
        click.echo(f"{own_code.own_traceback(error)}Error: {error}", err=True)
        raise SystemExit(2) from None


def verb(command: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(command)
    def quiet(*arguments: Any, **options: Any) -> Any:
        with _one_line_errors():
            return command(*arguments, **options)

    return quiet


def resumable(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command that can be resumed after Ctrl-C or SIGTERM, and says so in one line.

    Under torchrun, which ends the processes that it has started, this changes nothing.
    """

    @wraps(command)
    def stoppable(*arguments: Any, **options: Any) -> Any:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            return command(*arguments, **options)
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return command(*arguments, **options)
        except KeyboardInterrupt:
            click.echo("stopped; run the same command to go on", err=True)
            raise SystemExit(130) from None
        finally:
            signal.signal(signal.SIGTERM, before)

    return stoppable


def sparsities_of(texts: Sequence[str]) -> list[float]:
    """The numbers in texts in which commas separate them. Raises ValueError for any other text."""
    numbers = []
    for text in split_names(texts) if texts else ():
        try:
            numbers.append(float(text))
        except ValueError:
            raise ValueError(f"sparsity {text!r}; expected a number from 0 to 1") from None
    return numbers


def end_with(outcomes: "list[Outcome]") -> None:
    """Say what went wrong; exit with 1 if a cell failed."""
    bad = [outcome for outcome in outcomes if outcome.message]
    for outcome in bad:
        click.echo(
            f"{outcome.own_traceback}{outcome.status}: {outcome.name}: {outcome.message}", err=True
        )
        if outcome.traceback_file:
            click.echo(f"  traceback: {outcome.traceback_file}", err=True)
    if any(outcome.status == "failed" for outcome in bad):
        raise SystemExit(1)
