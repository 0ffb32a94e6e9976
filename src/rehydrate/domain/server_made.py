"""What of a command your program fills in, and its client knows nothing of."""

from __future__ import annotations


class ServerMade:
    """Marks a field of a command that your program fills in anew at each try, such as a time or an id.

        at: Annotated[datetime, ServerMade]

    The field does not count when a repeated `command_id` is compared: the repeat is answered with the first result, and
    what was filled in first is what is stored. It is for fields of the command itself, not of values inside it.
    """

    __slots__ = ()
