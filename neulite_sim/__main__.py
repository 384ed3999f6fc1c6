"""`python -m neulite_sim`: the same as the command `neulite-sim`."""

from neulite_sim.cli import main

if __name__ == "__main__":
    main()
