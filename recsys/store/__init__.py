"""The service's own tables, on SQLite, PostgreSQL or MariaDB: modules of functions over one `Store` object.

`migrate.open_store` opens it; each other file holds the rows of one table and what is asked of them. `bulk` and
`database` are the only places that tell the three databases apart.

Other rooms import `audiences`, `bulk`, `campaigns`, `changes`, `database`, `events`, `incidents`, `items`, `keys`,
`leases`, `list_table`, `migrate`, `person`, `placements`, `requests`, `resilient`, `reviews`, `runs`, `schedule`,
`shop`, `tables`, `users` and `visitors`.
"""
