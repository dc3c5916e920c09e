"""The image's health check: exit code 0 if Triton says that all its models are ready."""

import http.client
import sys

connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=4)
try:
    connection.request("GET", "/v2/health/ready")
    status = connection.getresponse().status
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"Triton does not respond on port 8000: {error}")
if status != 200:
    sys.exit(f"Triton is not ready: its response to /v2/health/ready has the status {status}")
