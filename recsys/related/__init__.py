"""Related items: what is bought together, viewed together, goes with a cart, and is bought again.

They are counted and learned from baskets and sessions in training, and stored as plain arrays. Other rooms import
`tables`, `repeats`, `content`, `baskets`, `questions` and `training`.
"""
