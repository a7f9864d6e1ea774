"""One module of tests per chapter of SPEC.md."""
