"""The versioned artifact that answers come from: its files, and publish, rollback and prune.

Other rooms import `bundle` (assemble, save, load) and `versions` (list, publish, roll back, prune).
"""
