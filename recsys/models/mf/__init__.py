"""Matrix factorization without gradients."""
