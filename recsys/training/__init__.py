"""From data to an evaluated, refitted bundle: the pipeline of a run, evaluation, gate, wider searches for settings.

Other rooms import `pipeline`, `evaluation`, `box_evaluation`, `metrics`, `gate`, `libraries`, `tuning` and
`search_space`.
"""
