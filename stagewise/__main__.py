"""`python -m stagewise` is the command `stagewise`."""

from stagewise.cli.main import main

if __name__ == "__main__":
    main()
