"""From a question to an answer: history, user vector, search, filters.

Other rooms import `filters`, `fresh_items` and `recommender`.
"""
