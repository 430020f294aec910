"""`python -m cosyduplex_server` is the command `cosyduplex`."""

from cosyduplex_server.cli import main

raise SystemExit(main())
