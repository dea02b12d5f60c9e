"""Write collegium/__init__.pyi, the public names for type checkers; with --check, only compare.

Run it by `scripts/docs`.
"""

import sys
from pathlib import Path

import collegium

STUB = Path(__file__).resolve().parent.parent / "collegium" / "__init__.pyi"


def stub() -> str:
    """The whole file."""
    places = sorted((module, name) for name, module in collegium._modules().items())
    imports = "\n".join(f"from {module} import {name} as {name}" for module, name in places)
    return f"# Written by scripts/docs.\n\n{imports}\n\n__version__: str\n__all__: list[str]\n"


def main() -> int:
    """Write the file, or compare it; gives the exit code."""
    if "--check" not in sys.argv[1:]:
        STUB.write_text(stub())
        return 0
    current = STUB.read_text() == stub()
    if not current:
        print("collegium/__init__.pyi is out of date: run scripts/docs", file=sys.stderr)
    return 0 if current else 1


if __name__ == "__main__":
    sys.exit(main())
