"""What every check of the doctor returns."""

from collections.abc import Callable
from functools import wraps

from recsys.training.libraries import is_base

# Whether all is well, what was found, and what is allowed or how to mend it.
Answer = tuple[bool, str, str]
NOT_INSTALLED = "not installed: needed to train only"


def to_train(check: Callable[[str], Answer]) -> Callable[[str], Answer]:
    """Skip the check of something that only training needs where nothing that trains is installed."""

    @wraps(check)
    def answer(config: str) -> Answer:
        return (True, NOT_INSTALLED, "to train: see versions") if is_base() else check(config)

    return answer
