"""``python -m steer``."""

from steer.cli import main

if __name__ == "__main__":
    main()
