"""Plain values: interactions, histories, catalog, vocabularies, splits, times, and the extract on disk.

Other rooms import `arrays`, `catalog`, `extract`, `features`, `folder`, `interactions`, `ragged`, `returns`, `splits`,
`targets`, `times` and `vocabulary`.
"""
