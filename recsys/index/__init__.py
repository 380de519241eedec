"""Nearest-neighbor search over item vectors; the only door to FAISS.

Other rooms import `registry` (kinds, building, loading, measured recall), `flat` (the exact index) and `exact`
(search without an index).
"""
