"""A fake of Cloud Storage in a process of its own: it writes its address, and its counters for each line that it reads.

python -m compat.bench.cloud_server [--bandwidth BYTES]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.cloud_storage import cloud_storage  # needs the path


def main() -> None:
    """Serve until standard input ends. A line "forget NAME" removes an object of the bucket "exports"."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bandwidth", type=float, help="bytes a second, of each connection")
    options = parser.parse_args()
    with cloud_storage("parts", "exports") as server:
        server.bandwidth = options.bandwidth
        print(json.dumps({"url": server.url}), flush=True)
        for line in sys.stdin:
            command, _, name = line.strip().partition(" ")
            if command == "forget":
                server.remove("exports", name)
            objects = server.objects("parts")
            counters = {
                "received": server.bytes_in,
                "sent": server.bytes_out,
                "parts": len(objects),
                "operations": len(server.operations),
                "exports": {name: len(data) for name, data in server.objects("exports").items()},
            }
            print(json.dumps(counters), flush=True)


if __name__ == "__main__":
    main()
