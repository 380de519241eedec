"""Did a mailing help: who is held back, how large the effect is, and how much data it takes to find one.

Pure numpy and scipy over arrays of people. Other rooms import `assignment`, `effects`, `lift` and `planning`.
"""
