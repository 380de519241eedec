"""`recsys schedule`: starts jobs when they are due, and alerts about runs that failed."""
