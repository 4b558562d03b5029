"""`python -m manako.cli`: the same as `manako`."""

from manako.cli import main

if __name__ == "__main__":
    main()
