"""Boxes of related items: bought together, viewed together, what completes a cart, and what is bought again.

They read the tables that training made (recsys.related), which know the items of the bundle.
"""

from recsys.data.arrays import Bool, Int32, is_one_of
from recsys.related.repeats import rank_repeats, without_training
from recsys.related.tables import POPULARITY
from recsys.serving.asked import Asked, no_hits
from recsys.serving.popular import bestsellers
from recsys.serving.recommender import Hits


def bought_together(asked: Asked, depth: int) -> Hits:
    """What is in one basket with the items that the question names."""
    return _of_table(asked, depth, "bought_together")


def viewed_together(asked: Asked, depth: int) -> Hits:
    """What is looked at in one visit with the items that the question names."""
    return _of_table(asked, depth, "viewed_together")


def cart(asked: Asked, depth: int) -> Hits:
    """What completes the items that the question names."""
    return _of_table(asked, depth, "cart")


def buy_again(asked: Asked, depth: int) -> Hits:
    """What the user bought and will soon want again."""
    view, related = asked.snapshot.view, asked.snapshot.bundle.related
    repeats = without_training(len(view.main.catalog)) if related is None else related.repeats
    rows, scores = rank_repeats(repeats, asked.histories.select(_is_bought(asked)))
    return asked.first(rows, scores, depth)


def bought(asked: Asked) -> Int32:
    """The items of the history that the user bought: joint rows under which they are answered."""
    return asked.snapshot.view.current_row(asked.histories.items[_is_bought(asked)])


def _is_bought(asked: Asked) -> Bool:
    return is_one_of(asked.histories.kinds, asked.snapshot.bought_codes)


def _of_table(asked: Asked, depth: int, name: str) -> Hits:
    related = asked.snapshot.bundle.related
    if related is None:
        return no_hits()
    if related.facts.get(name, {}).get("method") == POPULARITY:
        return bestsellers(asked, depth)
    rows, scores = getattr(related, name).of(asked.snapshot.view.rows_in_bundle(asked.seeds))
    return asked.first(rows, scores, depth)
