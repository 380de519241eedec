"""Guards: figures of tonight's data and lists beside those of the last good nights, and what they say of the night.

Pure functions over plain values. `figures` measures a night in one pass over its events and its catalog, `comparison`
counts what has changed in data that an earlier night has read, `judge` turns both into verdicts, `bases` decides beside
which nights, and `lists` looks at vectors and at the lists made of them.

Other rooms import `bases`, `figures`, `comparison`, `judge`, `lists` and `verdicts`.
"""
