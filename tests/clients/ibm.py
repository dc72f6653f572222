"""Drives the stand-in for IBM Cloud with IBM's own client: every call that our backend makes."""

import json
import os

reached = json.loads(os.environ["FAKE_MANAGER"])
os.environ["REQUESTS_CA_BUNDLE"] = reached["ca"]

from ibm_cloud_sdk_core import ApiException  # noqa: E402
from ibm_cloud_sdk_core.authenticators import IAMAuthenticator  # noqa: E402
from ibm_secrets_manager_sdk.secrets_manager_v2 import SecretsManagerV2, SecretsPager  # noqa: E402


def client(api_key):
    service = SecretsManagerV2(authenticator=IAMAuthenticator(api_key, url=reached["url"]))
    service.set_service_url(reached["url"])
    return service


def refused(status, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except ApiException as error:
        assert error.status_code == status, error
        return error
    raise AssertionError(f"{call} was not refused")


sm = client(reached["api_key"])

# A wrong API key.
error = refused(400, client("wrong").list_secrets)
assert "could not be found" in str(error), error

# Groups.
assert [g["name"] for g in sm.list_secret_groups().get_result()["secret_groups"]] == ["default"]
group = sm.create_secret_group(name="edge").get_result()["id"]
assert len(sm.list_secret_groups().get_result()["secret_groups"]) == 2


def create(kind, name, **more):
    body = {"secret_type": kind, "name": name, "secret_group_id": group, **more}
    response = sm.create_secret(secret_prototype=body)
    assert response.get_status_code() == 201
    return response.get_result()


# Types, values, versions.
arbitrary = create("arbitrary", "token", payload="one", labels=["edge", "x"], description="d")
assert arbitrary["payload"] == "one"
create("kv", "config", data={"a": "b", "n": 1})
create("username_password", "db", username="u", password="p")
create("imported_cert", "tls", certificate="c", private_key="k", intermediate="i")
create("service_credentials", "cos", source_service={})
create("custom_credentials", "made", credentials_content={"user": "x"}, configuration="c")
refused(409, create, "arbitrary", "token", payload="again")
refused(400, create, "nonsense", "token")

metadata = sm.get_secret_metadata(id=arbitrary["id"]).get_result()
assert "payload" not in metadata
assert metadata["versions_total"] == 1 and metadata["state"] == 1 and metadata["locks_total"] == 0
first = sm.get_secret_version_metadata(secret_id=arbitrary["id"], id="current").get_result()
assert first["alias"] == "current" and first["payload_available"] and "payload" not in first
version = sm.create_secret_version(
    secret_id=arbitrary["id"], secret_version_prototype={"payload": "two"}
).get_result()
assert version["id"] != first["id"]
assert sm.get_secret_version(secret_id=arbitrary["id"], id=version["id"]).get_result()["payload"] == "two"
assert sm.get_secret_version(secret_id=arbitrary["id"], id="previous").get_result()["payload"] == "one"
assert sm.get_secret(id=arbitrary["id"]).get_result()["payload"] == "two"
by_name = sm.get_secret_by_name_type(secret_type="arbitrary", name="token", secret_group_name="edge")
assert by_name.get_result()["id"] == arbitrary["id"]
assert sm.list_secret_versions(secret_id=arbitrary["id"]).get_result()["total_count"] == 2
assert sm.get_secret_metadata(id=arbitrary["id"]).get_result()["updated_at"] > metadata["updated_at"]

# Lists.
for n in range(7):
    create("arbitrary", f"page-{n}", payload="x")
found = sm.list_secrets(groups=[group], secret_types=["arbitrary"], search="token").get_result()
assert [s["name"] for s in found["secrets"]] == ["token"]
found = sm.list_secrets(match_all_labels=["edge", "x"]).get_result()
assert [s["name"] for s in found["secrets"]] == ["token"]
pager = SecretsPager(client=sm, limit=3, sort="name", search="page-")
assert [s["name"] for s in pager.get_all()] == [f"page-{n}" for n in range(7)]
assert "payload" not in json.dumps(sm.list_secrets(limit=1000).get_result()["secrets"])

# Keys that are made: reuse off.
mints = {"ttl": "30m", "access_groups": ["AccessGroupId-1"]}
off = create("iam_credentials", "off", reuse_api_key=False, **mints)
before = sm.get_secret_metadata(id=off["id"]).get_result()
assert before["reuse_api_key"] is False and before["ttl"] == "30m" and "api_key" not in before
assert sm.get_secret_metadata(id=off["id"]).get_result()["api_key_id"] == before["api_key_id"]
one = sm.get_secret(id=off["id"]).get_result()
two = sm.get_secret(id=off["id"]).get_result()
assert one["api_key"] != two["api_key"] and one["api_key_id"] != two["api_key_id"]
refused(400, sm.create_secret_version, secret_id=off["id"], secret_version_prototype={})
refused(400, create, "iam_credentials", "both", service_id="ServiceId-1", **mints)
refused(400, create, "iam_credentials", "short", ttl="59", access_groups=["AccessGroupId-1"])

# Reuse on.
on = create("iam_credentials", "on", reuse_api_key=True, **mints)
one = sm.get_secret(id=on["id"]).get_result()
assert sm.get_secret(id=on["id"]).get_result()["api_key"] == one["api_key"]
sm.create_secret_version(secret_id=on["id"], secret_version_prototype={})
assert sm.get_secret(id=on["id"]).get_result()["api_key"] != one["api_key"]

# Locks, and the end of a version's data.
sm.create_secret_locks_bulk(id=off["id"], locks=[{"name": "lock-1", "description": "", "attributes": {}}])
refused(412, sm.get_secret, id=off["id"])
refused(412, sm.delete_secret, id=off["id"])
sm.delete_secret_locks_bulk(id=off["id"], name=["lock-1"])
current = sm.get_secret_version_metadata(secret_id=off["id"], id="current").get_result()
assert current["api_key_id"] == two["api_key_id"]
ended = sm.delete_secret_version_data(secret_id=off["id"], id=current["id"])
assert ended.get_status_code() == 204
refused(404, sm.delete_secret_version_data, secret_id=off["id"], id=current["id"])
assert sm.get_secret(id=off["id"]).get_result()["api_key_id"] != current["api_key_id"]

# Edits, deletion, absence.
sm.update_secret_metadata(id=off["id"], secret_metadata_patch={"labels": ["moved"]})
assert sm.get_secret_metadata(id=off["id"]).get_result()["labels"] == ["moved"]
assert sm.delete_secret(id=off["id"]).get_status_code() == 204
error = refused(404, sm.get_secret_metadata, id=off["id"])
assert "not found" in str(error), error

# The engine.
engine = {
    "config_type": "iam_credentials_configuration",
    "name": "iam_config",
    "api_key": "engine-key",
    "disabled": False,
}
assert sm.create_configuration(configuration_prototype=engine).get_status_code() == 201
refused(409, sm.create_configuration, configuration_prototype=engine)
patched = sm.update_configuration(name="iam_config", configuration_patch={"disabled": True})
assert patched.get_result()["disabled"] is True
