"""`python -m flr`, which is what `torchrun -m flr` needs."""

from flr.cli.main import main

if __name__ == "__main__":
    main()
