"""Train one of transformers' detectors by the clock: what race.py runs as a process of its own."""

from contestants.peers import main

if __name__ == "__main__":
    main()
