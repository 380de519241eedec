"""The search index over item vectors: the only door to FAISS.

Other rooms import `registry`.
"""
