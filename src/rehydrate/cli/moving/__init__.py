"""Events on their way from one store to another, or to a file and back: `rehydrate copy`, `export` and `import`.

Two logs are read side by side as far as the second goes; what it lacks is appended in the order of the first; what was
appended is read back and compared. So the second is at each moment the beginning of the first, and after whatever ends
a call the same call goes on.
"""
