"""The search index over item vectors: the only door to FAISS.

`INDEXES` in `registry` lists the kinds: adding one is a file and a line.

Other rooms import `choice` (the index of a bundle, chosen by measuring), `registry` (the kinds: build, load, measured
recall), `flat` (the exact index), `exact` (search without an index) and `bulk` (exact search for very many users).
"""
