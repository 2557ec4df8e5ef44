"""Verifies a webhook from standard input, {"secret", "headers", "body"}, and prints its data."""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

asked = json.load(sys.stdin)
try:
    data = Webhook(asked["secret"]).verify(asked["body"].encode(), asked["headers"])
    json.dump({"data": data}, sys.stdout)
except WebhookVerificationError as error:
    json.dump({"error": str(error)}, sys.stdout)
