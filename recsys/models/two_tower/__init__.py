"""Two towers of embeddings, trained with a sampled softmax."""
