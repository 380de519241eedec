"""One file for each change of the tables. A released file is never edited."""
