"""Whom to mail about given items: who is eligible, how likely each of them buys, and in which order.

Other rooms import `model` and `strategies`.
"""
