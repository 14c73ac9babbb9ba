"""`python -m graftrec VERB ...` is `graftrec VERB ...`."""

import sys

from graftrec.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
