"""Where events live: the port, the backends behind it, and the URL that chooses one."""
