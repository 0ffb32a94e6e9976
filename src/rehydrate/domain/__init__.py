"""What a user writes: values and pure functions. Nothing in here waits, logs, tells the time or draws lots."""
