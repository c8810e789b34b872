"""Train a detector of transformers for a number of minutes; race.py starts it as a process."""

from contestants.peers import main

if __name__ == "__main__":
    main()
