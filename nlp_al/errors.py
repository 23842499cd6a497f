"""The two ways in which a run ends early; each carries one sentence for the user."""


class UserError(Exception):
    """Bad usage, config or data: exit status 2. The sentence names the key, file or column and what would be right."""


class RunError(Exception):
    """Any other failure that the user can act on (disk full, directory in use): exit status 1."""
