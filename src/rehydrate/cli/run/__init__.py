"""`rehydrate run`: commands from lines of JSON, answers as lines of JSON.

lines     bytes -> numbered lines              commands  a line <-> a command; an outcome -> a line
pipeline  order, concurrency, answers          progress  what a named run has finished, in the store
sending   one command, with its repeats        report    what a person sees on stderr
"""
