"""`python -m supsup_models` is the `supsup` command."""

from supsup_models.cli import main

if __name__ == "__main__":
    main()
