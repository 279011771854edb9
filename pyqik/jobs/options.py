"""The options of a job, from the weakest to the strongest: pyqik's own, the configuration's, the job's, the push's.

A declaration keeps only what its author gave: jobs are declared when their module is imported, which may be before the
process is configured. The rest is laid under it at the push, and in the worker for a payload that has no `retry`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pyqik.core.errors import InvalidJob
from pyqik.core.job_options import option_mistakes

#: Options of a job for which nobody gave any.
DEFAULTS: Final[Mapping[str, Any]] = {"queue": "default", "retry": True}


class _NotGiven:
    def __repr__(self) -> str:
        return "<the client's default>"


#: The default of a parameter for an option: what the job or the configuration says counts. None would be a mistake.
NOT_GIVEN: Final[Any] = _NotGiven()


def check_options(options: Mapping[str, Any], where: str) -> None:
    """Raises: InvalidJob naming `where`, the first option that cannot be, its value and the way out."""
    for mistake in option_mistakes(options):
        raise InvalidJob(f"{where}: {mistake}")


def given(**options: Any) -> dict[str, Any]:
    """Those of a push's own parameters that were given."""
    return {name: value for name, value in options.items() if value is not NOT_GIVEN}
