"""Train a detector of transformers for a number of minutes; race.py starts it as a process."""

from candidates.transformers_models import main

if __name__ == "__main__":
    main()
