"""Training SymmFlow models."""
