"""`python -m geocrm.jobs` is the worker."""

from geocrm.jobs.worker import main

if __name__ == "__main__":
    main()
