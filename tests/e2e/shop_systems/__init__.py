"""Small shops in the tables of shop systems, with the real names of tables and columns."""
