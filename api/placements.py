"""What becomes of a question that names a placement, as far as this process knows it."""

import time
from dataclasses import replace

from api.state import AppState
from recsys.serving.answer import Query
from recsys.serving.placements import Placement, find_placement, known_placements, question


def known(state: AppState) -> list[Placement]:
    """All placements, of the configuration and of the own tables."""
    return known_placements(state.config, state.placements)


def placed(state: AppState, name: str, query: Query, *, k: int | None, usual_k: int | None = None) -> Query:
    """The question that the placement makes of a query. k, usual_k: before and behind the placement's own; None: unset.

    Raises NotFoundError when there is no such placement, or when it is not active at the moment of the question.
    """
    settings = find_placement(known(state), name, query.as_of or time.time_ns() // 1000).settings
    return question(settings, replace(query, box=settings.box), k=k or settings.k or usual_k)
