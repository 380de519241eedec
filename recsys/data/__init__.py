"""Plain values: interactions, histories, catalog, vocabularies, splits, times, demand by day, and the extract on disk.

Other rooms import `arrays`, `catalog`, `demand`, `extract`, `features`, `folder`, `interactions`, `nobody`, `ragged`,
`returns`, `splits`, `targets`, `times` and `vocabulary`.
"""
