"""Wan2.1-T2V-14B at full size, row by row; `--tiny` runs the same rows on a tiny one.

python -m benchmarks.wan [--tiny] [--rows a,b] [--output FILE]
"""

from benchmarks.full.run import command

main = command("wan")

if __name__ == "__main__":
    main()
