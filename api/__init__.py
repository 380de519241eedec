"""HTTP: the live bundle's answers, the events that come in, and what operators watch."""
