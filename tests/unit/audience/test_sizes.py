import numpy as np
import pytest

from recsys.audience.sizes import choose_size, parse_size
from recsys.errors import ConfigError, RefusedError

PROBABILITY = np.array([0.5, 0.4, 0.3, 0.05, 0.01])


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (3, 3),
        ("3", 3),
        ("40%", 2),
        ("0.1%", 1),  # at least one
        ("buyers:0.9", 2),
        ("buyers:0.91", 3),
        ("profit:10:1", 3),  # 0.05 * 10 does not pay a mail of 1
        ("profit:30:1", 4),
        ("profit:100:0", 5),
    ],
)
def test_a_size_is_a_number_a_share_buyers_or_what_pays(text, size):
    assert choose_size(parse_size(text), PROBABILITY)[0] == size
    assert parse_size(str(parse_size(text))) == parse_size(text)


def test_what_pays_is_told():
    assert choose_size(parse_size("profit:10:1"), PROBABILITY)[1] == {"profit": 9.0}


@pytest.mark.parametrize("text", ["0", "-1", "101%", "0%", "ten", "buyers:", "profit:5", "profit:0:1", "1.5", ""])
def test_what_is_no_size_is_refused_with_what_is(text):
    with pytest.raises(ConfigError, match="500, 10% of the eligible"):
        parse_size(text)


def test_more_buyers_than_are_expected_and_mails_that_never_pay_are_refused():
    with pytest.raises(RefusedError, match=r"of all 5 eligible users 1\.3 are expected to buy"):
        choose_size(parse_size("buyers:2"), PROBABILITY)
    with pytest.raises(RefusedError, match=r"no mail pays.*0\.5000, which is worth 0\.50"):
        choose_size(parse_size("profit:1:0.6"), PROBABILITY)
