"""`python -m stagewise` is the command `stagewise`."""

import sys

try:
    from stagewise.cli.main import main
except KeyboardInterrupt:  # nothing was begun yet
    sys.exit(130)

if __name__ == "__main__":
    main()
