"""The artifact of a training: a folder that is complete or absent; published, rolled back, pruned.

Other rooms import `bundle`.
"""
