"""Small modules for the clauses; each file serves a chapter, `blocks` serves all."""
