"""Any pipeline of diffusers, steered through its own call (docs/architecture.md, "Pipelines without a family")."""
