"""The shop's database and files: read, checked and turned into events and a catalog.

`SOURCES` in `contract` names the databases that can be read: adding one is a file in `dialects/` and a line. `PRESETS`
in `presets` lists the forms of files: adding one is a function and a line. `SHOPS` in `shops.contract` names the shop
systems whose queries are known: adding one is a file in `shops/` and a line.

Other rooms import `catalog`, `dataset`, `findings`, `importer`, `lists`, `people`, `reader`, `readings`,
`reviews` and `shops.contract`.
"""
