"""`python -m calibrae`."""

from .cli import main

if __name__ == "__main__":
    main()
