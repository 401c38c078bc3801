"""`python -m codexrelay` is the command `codexrelay`."""

from codexrelay.cli import main

if __name__ == "__main__":
    main()
