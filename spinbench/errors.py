"""The one error that a user's mistake raises."""


class UserError(Exception):
    """Bad input, said in one line: what is wrong, where (file, line, key), and what would be right.

    Commands print the line and exit with code 2. Anything else that escapes is our defect and keeps its traceback.
    """
