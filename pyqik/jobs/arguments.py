"""Whether a payload's positional arguments fit a job's signature; computed once, when the job is declared.

It counts and never looks at values: an error text ends up in Redis, in logs and in Sidekiq's Web UI.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import Parameter

from pyqik.core.errors import InvalidJob, WrongArguments

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class ArgumentsCheck:
    """How many arguments the job `name` takes; `most` is None for `*args`."""

    name: str
    least: int
    most: int | None
    description: str

    @classmethod
    def of(
        cls, name: str, function: Callable[..., object], *, bound: bool = False, without: str = ""
    ) -> ArgumentsCheck:
        """The check for `function`; with `bound`, its first parameter is the instance and does not count, nor does the
        one called `without`, which the engine gives.

        Raises: InvalidJob for a keyword-only parameter without a default, which no payload could ever give.
        """
        parameters = list(inspect.signature(function).parameters.values())[1 if bound else 0 :]
        parameters = [parameter for parameter in parameters if parameter.name != without]
        for parameter in parameters:
            if parameter.kind is Parameter.KEYWORD_ONLY and parameter.default is Parameter.empty:
                raise InvalidJob(
                    f"{name} needs the keyword argument {parameter.name!r}, but a payload's arguments are positional; "
                    f"give it a default or move it before the `*`"
                )
        positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
        least = sum(parameter.default is Parameter.empty for parameter in positional)
        rest = any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters)
        return cls(name, least, None if rest else len(positional), _describe(parameters, least, len(positional), rest))

    def check(self, args: Sequence[object]) -> None:
        """Raises: WrongArguments naming what the job takes and how many it got."""
        given = len(args)
        if given < self.least or (self.most is not None and given > self.most):
            raise WrongArguments(f"{self.name} takes {self.description}, got {given}")


def _describe(parameters: list[Parameter], least: int, most: int, rest: bool) -> str:
    if rest:
        count = f"at least {least}" if least else "any number of"
    else:
        count = str(most) if least == most else f"{least} to {most}"
    names = [
        f"*{parameter.name}"
        if parameter.kind is Parameter.VAR_POSITIONAL
        else parameter.name + ("" if parameter.default is Parameter.empty else "=…")
        for parameter in parameters
        if parameter.kind in _POSITIONAL or parameter.kind is Parameter.VAR_POSITIONAL
    ]
    if not names:
        return "no arguments"
    last = least if rest else most
    return f"{count} argument{'' if last == 1 else 's'} ({', '.join(names)})"
