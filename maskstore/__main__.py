"""`python -m maskstore` is the `maskstore` command."""

from maskstore.cli import main

if __name__ == "__main__":
    main()
