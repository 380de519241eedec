"""Training with several processes: tables that are shared out, and the torchrun that starts workers."""
