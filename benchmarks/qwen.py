"""Qwen-Image at full size, row by row; `--tiny` runs the same rows on a tiny one.

python -m benchmarks.qwen [--tiny] [--rows a,b] [--output FILE]
"""

from benchmarks.full.run import command

main = command("qwen")

if __name__ == "__main__":
    main()
