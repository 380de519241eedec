"""What an installation consists of: one TOML file and the environment, as typed and checked settings.

Other rooms import `settings`, `loading`, `toml` and `cron`.
"""
