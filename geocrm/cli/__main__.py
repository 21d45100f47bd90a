"""`python -m geocrm.cli` is `geocrm`."""

from geocrm.cli import main

if __name__ == "__main__":
    main()
