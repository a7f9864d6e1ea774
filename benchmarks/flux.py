"""FLUX.1-dev at full size, row by row; `--tiny` runs the same rows on a tiny one.

python -m benchmarks.flux [--tiny] [--rows a,b] [--output FILE]
"""

from benchmarks.full.run import command

main = command("flux")

if __name__ == "__main__":
    main()
