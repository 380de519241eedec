"""From data to an evaluated, refitted bundle: candidates, evaluation, gate, search spaces.

Other rooms import `candidates`, `evaluation`, `gate` and `search_space`.
"""
