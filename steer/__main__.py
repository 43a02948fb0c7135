"""``python -m steer``."""

from steer.cli.app import main

if __name__ == "__main__":
    main()
