"""The real Argilla server and its page in one process on SQLite, from pip alone; an optional extra."""
