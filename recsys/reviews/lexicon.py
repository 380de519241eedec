"""Whether a text complains by a list of English words, for shops without ratings to learn from.

The list and its rules are VADER's (Hutto and Gilbert, VADER: A parsimonious rule-based model for sentiment analysis of
social media text, 2014).
"""

from dataclasses import dataclass, field

import numpy as np
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from recsys.data.arrays import Float64

_LONGEST = 5_000  # characters that are looked at


@dataclass(frozen=True)
class Lexicon:
    """Tells how likely a text complains. It knows English alone, and its probabilities are not calibrated."""

    analyzer: SentimentIntensityAnalyzer = field(default_factory=SentimentIntensityAnalyzer)

    def probabilities(self, texts: list[str]) -> Float64:
        """How likely each text [n] complains: [n]."""
        scores = [self.analyzer.polarity_scores(text[:_LONGEST])["compound"] for text in texts]
        return (1 - np.array(scores, np.float64)) / 2
