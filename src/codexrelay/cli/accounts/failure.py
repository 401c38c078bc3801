"""A command that could not do what it was asked: one line on stderr, exit status 1."""

from __future__ import annotations

from typing import IO, Any

import click


class FailureError(click.ClickException):
    """Ends the command. Its text says what happened and what to do."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the text as the relay prints its own."""
        click.echo(f"codexrelay: {self.format_message()}", file=file, err=True)


class AnsweredFailureError(FailureError):
    """The answer, in JSON too, stands on stdout all the same and says what failed."""


class UnknownNameError(FailureError):
    """There is no account of the name that was given."""


class ConfigFailureError(FailureError):
    """The configuration cannot be used; each problem has a line of its own."""

    exit_code = 2

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the problems as `codexrelay serve` prints them."""
        for problem in self.problems:
            click.echo(f"codexrelay: {problem}", file=file, err=True)
