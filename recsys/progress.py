"""The callback through which a long step says how far it has come."""

from collections.abc import Callable

Progress = Callable[[str, float], None]
"""Called with the step's name and the share of it that is done, 0 to 1. The name is for people and carries no meaning."""


def ignore(_step: str, _done: float) -> None:
    """Show no progress: the callback for a caller that has nowhere to show it."""
