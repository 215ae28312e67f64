"""The command: words of the command line to settings to an exit status."""
