"""What reviews say: whether a text complains, and what the reviews of each item come to.

Other rooms import `sentiment` and `summary`.
"""
