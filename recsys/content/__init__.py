"""Texts and pictures of the catalog as vectors, for items that have few events or none.

Other rooms import `encoders`, `item_text`, `looks`, `search`, `words`, `networks`, `text_network` and
`picture_network`.
"""
