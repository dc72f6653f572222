"""Drives the stand-in for Vault with hvac through every call that the hub makes of Vault.

FAKE_MANAGER holds what `fake-manager vault` said of itself. Exits with 1 at the first surprise.
"""

import json
import os
from contextlib import contextmanager

import hvac
from hvac import exceptions

fake = json.loads(os.environ["FAKE_MANAGER"])


def client(token=None, **more):
    return hvac.Client(url=fake["url"], token=token, verify=fake["ca"], **more)


@contextmanager
def refused(kind, text=""):
    try:
        yield
    except kind as error:
        assert type(error) is kind, f"{error!r} is not just {kind}"
        assert text in str(error), f"{error} does not say {text!r}"
    else:
        raise AssertionError(f"was not refused with {kind}")


root = client(fake["token"])
nobody = client()


def logins():
    hub = client()
    answer = hub.auth.approle.login(fake["role_id"], fake["secret_id"])
    assert answer["data"] is None
    assert answer["auth"]["renewable"] and answer["auth"]["lease_duration"] == 3600
    assert answer["auth"]["token_type"] == "service"
    assert "hub" in answer["auth"]["policies"] and "default" in answer["auth"]["policies"]
    assert hub.is_authenticated()
    with refused(exceptions.InvalidRequest, "invalid role or secret ID"):
        nobody.auth.approle.login(fake["role_id"], "no")

    looked = hub.auth.token.lookup_self()["data"]
    assert looked["accessor"] == answer["auth"]["accessor"] and looked["period"] == 3600
    assert 0 < looked["ttl"] <= 3600
    renewed = hub.auth.token.renew_self(increment="1h")["auth"]
    assert renewed["client_token"] == hub.token and renewed["lease_duration"] == 3600
    hub.auth.token.revoke_self()
    with refused(exceptions.Forbidden, "permission denied"):
        client(answer["auth"]["client_token"]).auth.token.lookup_self()

    mine = client(cert=(fake["client_certificate"], fake["client_key"]))
    mine.auth.cert.login(
        name="hub", cert_pem=fake["client_certificate"], key_pem=fake["client_key"]
    )
    auth = mine.adapter.post("/v1/auth/cert/login", json={"name": "hub"})["auth"]
    assert auth["metadata"]["cert_name"] == "hub" and auth["client_token"]
    with refused(exceptions.InvalidRequest, "no client certificate supplied"):
        nobody.adapter.post("/v1/auth/cert/login", json={"name": "hub"})
    with refused(exceptions.InvalidRequest, "no chain matching"):
        mine.adapter.post("/v1/auth/cert/login", json={"name": "another"})


def wrapping():
    made = root.auth.approle.generate_secret_id("hub", wrap_ttl="60s")
    assert made["data"] is None and made["wrap_info"]["ttl"] == 60
    assert made["wrap_info"]["creation_path"] == "auth/approle/role/hub/secret-id"
    token = made["wrap_info"]["token"]
    looked = nobody.adapter.post("/v1/sys/wrapping/lookup", json={"token": token})["data"]
    assert looked["creation_path"].endswith("/secret-id") and looked["creation_ttl"] == 60
    unwrapped = client().sys.unwrap(token)
    secret_id = unwrapped["data"]["secret_id"]
    assert client().auth.approle.login(fake["role_id"], secret_id)["auth"]["client_token"]
    with refused(exceptions.InvalidRequest, "wrapping token is not valid or does not exist"):
        client().sys.unwrap(token)
    again = root.auth.approle.generate_secret_id("hub", wrap_ttl="60s")
    own = client(again["wrap_info"]["token"])
    assert own.sys.unwrap()["data"]["secret_id"]


def kv2():
    kv = root.secrets.kv.v2
    first = kv.create_or_update_secret("team/db", {"key": "a", "value": "one"}, cas=0)
    assert first["data"]["version"] == 1
    with refused(exceptions.InvalidRequest, "did not match the current version"):
        kv.create_or_update_secret("team/db", {"value": "no"}, cas=0)
    kv.create_or_update_secret("team/db", {"key": "a", "value": "two"}, cas=1)
    read = kv.read_secret_version("team/db", raise_on_deleted_version=True)["data"]
    assert read["data"]["value"] == "two" and read["metadata"]["version"] == 2
    assert not read["metadata"]["destroyed"] and read["metadata"]["deletion_time"] == ""
    old = kv.read_secret_version("team/db", version=1, raise_on_deleted_version=True)
    assert old["data"]["data"]["value"] == "one"
    kv.patch("team/db", {"value": "three"})
    assert kv.read_secret("team/db", raise_on_deleted_version=True)["data"]["data"] == {
        "key": "a",
        "value": "three",
    }
    merged = root.adapter.request(
        "patch",
        "/v1/secret/data/team/db",
        json={"options": {"cas": 3}, "data": {"key": None}},
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert merged["data"]["version"] == 4
    subkeys = root.read("secret/subkeys/team/db")["data"]
    assert subkeys["subkeys"] == {"value": None} and subkeys["metadata"]["version"] == 4

    kv.delete_latest_version_of_secret("team/db")
    with refused(exceptions.InvalidPath):
        kv.read_secret_version("team/db", raise_on_deleted_version=True)
    deleted = kv.read_secret_version("team/db", raise_on_deleted_version=False)["data"]
    assert deleted["data"] is None and deleted["metadata"]["deletion_time"] != ""
    kv.undelete_secret_versions("team/db", [4])
    assert kv.read_secret("team/db", raise_on_deleted_version=True)["data"]["data"]
    kv.delete_secret_versions("team/db", [4])
    kv.destroy_secret_versions("team/db", [1])
    kv.update_metadata("team/db", custom_metadata={"owner": "team"}, max_versions=5)
    metadata = kv.read_secret_metadata("team/db")["data"]
    assert metadata["current_version"] == 4 and metadata["oldest_version"] == 1
    assert metadata["versions"]["1"]["destroyed"] and metadata["versions"]["4"]["deletion_time"]
    assert metadata["custom_metadata"] == {"owner": "team"} and metadata["max_versions"] == 5

    kv.create_or_update_secret("top", {"value": "x"})
    assert kv.list_secrets("")["data"]["keys"] == ["team/", "top"]
    assert kv.list_secrets("team")["data"]["keys"] == ["db"]
    assert root.list("secret/metadata/team")["data"]["keys"] == ["db"]
    with refused(exceptions.InvalidPath):
        kv.list_secrets("nothing")
    kv.update_metadata("fleeting", delete_version_after="30s")
    made = kv.create_or_update_secret("fleeting", {"value": "x"})
    assert made["data"]["deletion_time"] != ""
    assert kv.read_secret("fleeting", raise_on_deleted_version=True)["data"]["data"]
    kv.delete_metadata_and_all_versions("top")
    with refused(exceptions.InvalidPath):
        kv.read_secret_metadata("top")
    kv.configure(cas_required=True)
    assert kv.read_configuration()["data"]["cas_required"]
    with refused(exceptions.InvalidRequest, "check-and-set parameter required"):
        kv.create_or_update_secret("team/db", {"value": "x"})
    kv.configure(cas_required=False)


def kv1():
    kv = root.secrets.kv.v1
    kv.create_or_update_secret("a/b", {"value": "one"}, mount_point="kv1")
    read = kv.read_secret("a/b", mount_point="kv1")
    assert read["data"] == {"value": "one"} and not read["renewable"]
    assert kv.list_secrets("a", mount_point="kv1")["data"]["keys"] == ["b"]
    kv.delete_secret("a/b", mount_point="kv1")
    with refused(exceptions.InvalidPath):
        kv.read_secret("a/b", mount_point="kv1")


def leases():
    hub = client()
    hub.auth.approle.login(fake["role_id"], fake["secret_id"])
    assert root.list("database/roles")["data"]["keys"] == ["app"]
    first = hub.secrets.database.generate_credentials("app")
    second = hub.secrets.database.generate_credentials("app")
    assert first["data"] != second["data"] and first["lease_id"] != second["lease_id"]
    assert first["lease_id"].startswith("database/creds/app/")
    assert first["renewable"] and first["lease_duration"] == 3600
    looked = hub.sys.read_lease(first["lease_id"])["data"]
    assert looked["id"] == first["lease_id"] and looked["ttl"] <= 3600
    renewed = hub.sys.renew_lease(first["lease_id"], increment=7200)
    assert renewed["lease_id"] == first["lease_id"] and renewed["lease_duration"] == 7200
    capped = hub.sys.renew_lease(first["lease_id"], increment=90 * 24 * 3600)
    assert capped["lease_duration"] <= 24 * 3600 and capped["warnings"]
    hub.sys.revoke_lease(first["lease_id"])
    hub.sys.revoke_lease(first["lease_id"])
    with refused(exceptions.InvalidRequest, "lease not found"):
        hub.sys.renew_lease(first["lease_id"])
    with refused(exceptions.InvalidRequest, "invalid lease"):
        hub.sys.read_lease(first["lease_id"])
    # A lease is a child of the token that it was made with.
    hub.auth.token.revoke_self()
    with refused(exceptions.InvalidRequest, "invalid lease"):
        root.sys.read_lease(second["lease_id"])


def rights():
    hub = client()
    hub.auth.approle.login(fake["role_id"], fake["secret_id"])
    with refused(exceptions.Forbidden, "permission denied"):
        hub.secrets.kv.v2.create_or_update_secret("team/db", {"value": "x"})
    with refused(exceptions.Forbidden, "permission denied"):
        client("hvs.unknown").secrets.kv.v2.read_secret("x", raise_on_deleted_version=True)
    with refused(exceptions.InvalidPath, "no handler for route"):
        root.adapter.get("/v1/nowhere/x")


def system():
    health = nobody.sys.read_health_status(method="GET")
    assert health["initialized"] and not health["sealed"] and not health["standby"]
    assert nobody.sys.read_health_status(method="HEAD").status_code == 200
    root.sys.enable_secrets_engine("kv", path="other", options={"version": "2"})
    root.secrets.kv.v2.create_or_update_secret("x", {"value": "x"}, mount_point="other")
    root.sys.disable_secrets_engine("other")
    with refused(exceptions.InvalidPath):
        root.adapter.get("/v1/other/data/x")

    root.sys.seal()
    assert nobody.sys.is_sealed() and nobody.seal_status["sealed"]
    assert nobody.sys.read_health_status(method="HEAD").status_code == 503
    with refused(exceptions.VaultDown, "Vault is sealed"):
        root.secrets.kv.v2.read_secret("team/db", raise_on_deleted_version=True)
    nobody.sys.submit_unseal_key("key")
    assert not nobody.sys.is_sealed()


for trial in (logins, wrapping, kv2, kv1, leases, rights, system):
    trial()
    print(trial.__name__, "ok")
