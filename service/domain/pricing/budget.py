"""How long prices may be computed: spent by what the work is known to take, before it is done, not by a clock."""

from service.errors import InvalidArgument

MAX_US = 5_000_000
"""Of one request, in microseconds of a processor of 2020."""


class OverBudget(InvalidArgument):
    """Nothing of what it is about was computed."""


class Budget:
    def __init__(self, us: float = MAX_US) -> None:
        self._left = us

    def spend(self, us: float, path: str, description: str) -> None:
        """Raises OverBudget, for the field of the request, when less is left."""
        if us > self._left:
            raise OverBudget.field(path, description)
        self._left -= us
