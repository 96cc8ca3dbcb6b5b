"""The functions behind the commands of `supsup`, one file each."""
