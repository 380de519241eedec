"""From a query to an answer: one engine for HTTP, the command line and evaluation.

`answer` takes a query and a snapshot through history, eligibility and search; evaluation asks `recommender` in bulk.
Nothing here knows HTTP, the command line or the metrics of the service.

`BOXES` in `boxes` lists the boxes of a shop's pages, and `FILTERS` in `operators` the operators of a filter: adding one
is a function and a line.

Other rooms import `answer`, `attributes`, `boxes`, `bulk`, `eligibility`, `filters`, `fresh_items`, `history`,
`masks`, `placements`, `popular`, `propensity`, `recommender`, `replay`, `rules`, `search`, `several` and `snapshot`.
"""
