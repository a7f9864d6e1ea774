"""Full-size models, measured row by row, one process each.

`models` says what is run, `ways` how it is compiled, `child` is one process, `run`
starts them; `floor` and `targets` judge what came back.
"""
