"""What reviews say: whether a text complains, and what the reviews of each item come to.

Other rooms import `lexicon`, `report`, `sentiment` and `summary`.
"""
