"""The callback through which a long step says how far it has come."""

from collections.abc import Callable

Progress = Callable[[str, float], None]
"""Called with a step's name and the share of it that is done, 0 to 1. The name is for people; it carries no meaning."""


def no_progress(_step: str, _done: float) -> None:
    """Show nothing: the callback of a caller that has nowhere to show progress."""
