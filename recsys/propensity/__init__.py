"""How likely each customer buys again, is lost, and how much they spend, within the next n days.

`training` learns from past cuts on torch; `scorer` scores in numpy and loads no torch. Other rooms import `days`,
`inputs`, `training`, `scorer`, `files`, `past_cuts` and `metrics`.
"""
