"""What the help names is what the tables know: help texts are written by hand, so that `--help` loads no table."""

import inspect
import typing

import pytest

from api.schemas import ShortFilter
from jobs import cli
from recsys.audience.strategies import STRATEGIES
from recsys.serving.filters import FILTERS
from recsys.source.shops.contract import SHOPS
from recsys.training.search_space import SPACES


def help_of(command, parameter: str) -> str:
    annotation = inspect.signature(command, eval_str=True).parameters[parameter].annotation
    return " ".join(getattr(note, "help", None) or "" for note in typing.get_args(annotation)[1:])


def listed(names) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}"


@pytest.mark.parametrize(
    ("command", "parameter", "names"),
    [
        (cli.audience, "strategy", STRATEGIES),
        (cli.tune, "model", SPACES),
        (cli.init, "shop", SHOPS),
        (cli.recommend, "filters", FILTERS),
        (cli.similar, "filters", FILTERS),
    ],
)
def test_the_help_of_a_command_lists_the_names_that_are_allowed(command, parameter, names):
    assert listed(names) in help_of(command, parameter)


def test_the_documentation_of_http_lists_the_operators_of_filters():
    [field] = typing.get_args(ShortFilter)[1:]
    assert listed(FILTERS) in field.description
