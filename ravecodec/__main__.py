"""`python -m ravecodec` is the command line."""

from ravecodec.cli import main

if __name__ == "__main__":
    main()
