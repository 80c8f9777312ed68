"""`python -m dit_core`: the command line."""

from dit_core.cli import main

if __name__ == "__main__":
    main()
