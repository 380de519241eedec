"""The sample shop: a generated SQLite database whose true purchase probabilities are known.

Other rooms import `shop`.
"""
