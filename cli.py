"""Run the command line from a checkout: `python cli.py run scenarios/jetson_mix.yaml`."""

from neulite_sim.__main__ import main

if __name__ == "__main__":
    main()
