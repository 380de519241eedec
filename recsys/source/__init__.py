"""The shop's database and files: read, checked and turned into events and a catalog.

Other rooms import `dataset`, `findings`, `importer` and `reader`.
"""
