"""Reading images: ``steer segment`` and ``steer classify``."""
