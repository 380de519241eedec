"""The versioned artifact that answers come from: its files, and publish, rollback and prune.

Bundles are folders of one machine; `recsys.data.folder` makes them complete or absent.

Other rooms import `bundle` (assemble, save, load) and `versions` (list, publish, roll back, prune).
"""
