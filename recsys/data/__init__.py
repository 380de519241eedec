"""Plain values: interactions, histories, catalog, vocabularies, splits, times, and the extract on disk.

Other rooms import `arrays`, `catalog`, `demand`, `extract`, `features`, `folder`, `interactions`, `nobody`, `prices`,
`ragged`, `resident`, `returns`, `splits`, `targets`, `times` and `vocabulary`.
"""
