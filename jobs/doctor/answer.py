"""What every check of the doctor returns."""

# Whether all is well, what was found, and what is allowed or how to mend it.
Answer = tuple[bool, str, str]
