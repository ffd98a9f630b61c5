"""What to do about each way in which an environment can't be read, as sentences for the operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.api.client import CredentialName, Reason

REMEDY_BY_REASON: Final[Mapping[Reason, str]] = {
    "timeout": "Look for a firewall that drops packets on the way to api.base_url, or allow more time: api.timeout and"
    " scrape.timeout.",
    "connect": "Check the host and port of api.base_url, its name in DNS, firewalls, and api.proxy_url.",
    "tls": "Give a private gateway's authority as api.ca_file, and check that the server's certificate names its host.",
    "auth": "Check the API key and the environment key: a file that changes is read again by itself.",
    "not_found": "Check the id, its workspace_id or api.workspace_id, which organisation the keys are of, that the environment is"
    " self-hosted, and the path of api.base_url, which ends in /v1 at the vendor.",
    "bad_request": "Check api.version, api.beta and api.query against what the server expects, and for an organisation's API key"
    " api.workspace_id.",
    "rate_limited": "Wait a minute; if it happens again, lower api.requests_per_minute: the workers share the organisation's limit.",
    "server": "The API is at fault: try again later, as the exporter does at every scrape.",
    "bad_payload": "Check the path of api.base_url, which ends in /v1 at the vendor, and look for a newer version of the exporter.",
    "too_large": "Raise api.max_response_bytes, or lower listing.page_size.",
    "protocol": "Check api.base_url and api.proxy_url, and that nothing on the way redirects or compresses."
    " A list without an end is the server's fault, and is tried again at every scrape.",
    "internal": "This is a defect of the exporter: report it with the traceback from its log.",
}
RENEW_BY_CREDENTIAL: Final[Mapping[CredentialName, str]] = {
    "api_key": "The API key is refused: check what api.api_key_file or api_key_env holds, api.workspace_id, and api.auth_style"
    " (x-api-key or bearer).",
    "environment_key": "The environment key is refused: issue a new one for this very environment in the vendor's console and"
    " put it where environment_key_file or environment_key_env says.",
}
NO_WORKSPACE: Final = (
    "The API key belongs to the organisation and the call names no workspace: set api.workspace_id, or list the workspaces in"
    " discovery.workspaces and give an environment of the file its own workspace_id."
)
NO_LIST: Final = (
    "No credential may list the work: give the environment's own key as environment_key_file or environment_key_env, or set"
    " listing.enabled: false."
)
NO_STATS: Final = (
    "No credential may read the queue: give api.api_key_file, or the environment's own as environment_key_file."
)
CLOUD: Final = "Take it out of environments: a cloud environment has neither a queue of its own nor workers to watch."
UNFINISHED: Final = "The budget did not suffice for its calls: raise api.requests_per_minute, or try again in a minute."
