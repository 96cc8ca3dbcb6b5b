"""What each `supsup` command does, one file a command, without its options (those are in `supsup_models.cli.app`)."""
