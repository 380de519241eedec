"""The configuration: one TOML file and the environment, as typed and validated settings.

Other rooms import `settings`, `loading`, `toml` and `cron`.
"""
