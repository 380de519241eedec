"""The operator's side: the command line, and the jobs it runs, one file each.

`cli` names every command's function by a dotted string and imports it when it is called. Nothing outside imports jobs.
"""
