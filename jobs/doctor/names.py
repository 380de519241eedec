"""Check that the names under which this program is imported are its own."""

import importlib.util
from importlib.metadata import packages_distributions
from pathlib import Path

from jobs.doctor.answer import Answer

NAMES = ("recsys", "api", "jobs", "migrations")
MEND = "an environment of recsys's own, and no folder of these names on PYTHONPATH"


def check_names(_config: str) -> Answer:
    """Whether the top-level packages come from this installation, and no other distribution put files into them."""
    own, owners = Path(__file__).parents[2], packages_distributions()
    wrong = list[str]()
    for name in NAMES:
        if others := sorted(set(owners.get(name, ())) - {"recsys"}):
            wrong.append(f"{name} is a package of {', '.join(others)} too")
        elif (place := _place(name)) != own:
            wrong.append(f"{name} comes from {place or 'nowhere'}")
    return not wrong, "; ".join(wrong) or f"{', '.join(NAMES)} from {own}", MEND


def _place(name: str) -> Path | None:
    """The folder from which a package would be imported."""
    spec = importlib.util.find_spec(name)
    places = (spec and spec.submodule_search_locations) or ()
    return next((Path(place).parent for place in places), None)
