"""`python -m manako`: the same as `manako`, for launchers that want a module."""

from manako.cli import main

if __name__ == "__main__":
    main()
