"""NATS below Rehydrate: the connection, and the server as a child process. The store in NATS and the cluster stand on it."""
