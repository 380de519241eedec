"""Whom to mail about given items: who is eligible, how likely each of them buys, and in which order.

`STRATEGIES` in `strategies` lists the ways to rank: adding one is a function and a line. Other rooms import
`allocation`, `backtest`, `delivery`, `draw`, `eligible`, `export`, `files`, `filters`, `inputs`, `model`, `picks`,
`plan`, `propensity`, `recipients`, `shapes`, `sizes`, `strategies`, `suppression`, `unfinished` and `webhook`.
"""
