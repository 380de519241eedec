"""A campaign around an audience: what it says of itself, what it brought, and its report for people to read.

The states of a campaign and the register of exports are in `recsys/store/campaigns.py`. Other rooms import
`definition`, `frozen`, `members`, `outcomes`, `person`, `report` and
`shown`.
"""
