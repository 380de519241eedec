"""`recsys doctor`: is the installation sound, is everything reachable? One file for each thing that is checked.

Other rooms import `report`.
"""
