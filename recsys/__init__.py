"""The engine: data, models, index, evaluation, bundle. No HTTP, no scheduler, no command line."""
