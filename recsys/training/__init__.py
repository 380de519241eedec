"""From data to an evaluated, refitted bundle: the pipeline of a run, evaluation, gate, wider searches for settings.

Other rooms import `pipeline`, `evaluation`, `box_choice`, `box_evaluation`, `metrics`, `gate`, `libraries`,
`looks`, `propensity`, `tuning` and `search_space`.
"""
