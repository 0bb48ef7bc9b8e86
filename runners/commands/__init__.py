"""One console command per module; only these talk to the terminal."""
