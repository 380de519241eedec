"""Texts and pictures of the catalog as vectors, for items that have few events or none.

Other rooms import `item_text` and `words`.
"""
