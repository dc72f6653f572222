"""Drives the stand-in for Secret Server with Delinea's own client (python-tss-sdk).

FAKE_MANAGER is the line of JSON that the stand-in printed. The calls that the hub makes and the client
does not know are made with the client's token.
"""

import json
import os

import requests
from delinea.secrets.server import (
    DomainPasswordGrantAuthorizer,
    PasswordGrantAuthorizer,
    SecretServer,
    SecretServerClientError,
    SecretServerError,
    ServerFolder,
    ServerSecret,
)

NO_CHECKOUT = {"noAutoCheckout": "true"}


def main(fake):
    url = fake["url"]
    authorizer = DomainPasswordGrantAuthorizer(
        url, fake["username"], fake["domain"], fake["password"]
    )
    server = SecretServer(url, authorizer)

    logins_that_must_fail(fake)
    secrets(server, fake)
    folders(server, fake)
    searches(server, fake)
    what_the_client_does_not_know(server, authorizer, fake)


def logins_that_must_fail(fake):
    url = fake["url"]
    for authorizer in (
        PasswordGrantAuthorizer(url, fake["username"], fake["password"]),
        DomainPasswordGrantAuthorizer(url, fake["username"], fake["domain"], "wrong"),
    ):
        refused(authorizer.get_access_token)
    elsewhere = PasswordGrantAuthorizer(url + "/x", fake["username"], fake["password"])
    refused(elsewhere.get_access_token, by=SecretServerError)


def secrets(server, fake):
    number = fake["plain"]
    secret = ServerSecret(**server.get_secret(number, fetch_file_attachments=False))
    assert secret.id == number and secret.name == "uplink"
    assert secret.fields["username"].value == "svc-uplink"
    assert secret.fields["password"].value == "first-password"
    assert secret.folder_id == fake["folder"] and not secret.checked_out

    whole = server.get_secret(number, query_params=dict(NO_CHECKOUT))
    files = [item for item in whole["items"] if item["isFile"]]
    assert [item["itemValue"].content for item in files] == [b"\x00\x01key"]

    by_path = server.get_secret_by_path("/BU044/Team/uplink")
    assert by_path["id"] == number
    assert server.get_secret_by_path("BU044\\Team\\uplink")["id"] == number

    # What is absent and what may not be seen have one answer.
    refused(server.get_secret, 999999)
    refused(server.get_secret_by_path, "/BU044/Team/absent")
    # A comment is wanted.
    refused(server.get_secret, fake["commented"])


def folders(server, fake):
    folder = ServerFolder(**server.get_folder(fake["folder"], query_params={}))
    assert folder.folder_name == "Team" and folder.folder_path == "\\BU044\\Team"
    assert folder.parent_folder_id == fake["root"]
    assert server.get_folder_by_path("/BU044/Team")["id"] == fake["folder"]
    root = server.get_folder(fake["root"], query_params={}, get_all_children=True)
    names = sorted(child["folderName"] for child in root["childFolders"])
    assert names == ["Many", "Team"]
    children = server.get_child_folder_ids_by_folderid(fake["root"])
    assert sorted(children) == sorted([fake["folder"], fake["many"]])
    assert server.get_child_folder_ids_by_folderid(fake["folder"]) == []
    refused(server.get_folder_by_path, "/BU044/absent")


def searches(server, fake):
    ids = server.get_secret_ids_by_folderid(fake["many"])
    assert len(ids) == len(set(ids)) == 12
    first = json.loads(server.search_secrets({"filter.folderId": fake["many"]}))
    assert len(first["records"]) == 10 and first["hasNext"] and first["total"] == 12
    rest = json.loads(
        server.search_secrets(
            {"filter.folderId": fake["many"], "skip": first["nextSkip"], "take": 10}
        )
    )
    assert len(rest["records"]) == 2 and not rest["hasNext"]
    assert all("items" not in record for record in first["records"])
    exact = {"filter.searchText": "secret-07", "filter.isExactMatch": "true"}
    found = json.loads(server.search_secrets(exact))["records"]
    assert [record["name"] for record in found] == ["secret-07"]
    looked_up = json.loads(server.lookup_folders({"filter.searchText": "man"}))
    assert [record["value"] for record in looked_up["records"]] == ["Many"]


def what_the_client_does_not_know(server, authorizer, fake):
    def call(method, path, **more):
        headers = authorizer.headers()
        return requests.request(method, server.api_url + path, headers=headers, timeout=60, **more)

    plain, exclusive = fake["plain"], fake["exclusive"]
    summary = call("GET", f"/secrets/{plain}/summary").json()
    assert summary["name"] == "uplink" and "items" not in summary
    assert call("GET", f"/secrets/{plain}/state").json()["secretState"] == "None"
    newest = {"take": 1, "sortBy[0].name": "dateRecorded", "sortBy[0].direction": "desc"}
    audits = call("GET", f"/secrets/{plain}/audits", params=newest).json()["records"]
    assert [audit["action"] for audit in audits] == ["VIEW"]

    field = call("GET", f"/secrets/{plain}/fields/password", params=NO_CHECKOUT)
    assert field.json() == "first-password"
    commented = {"comment": "a test", "noAutoCheckout": True}
    read = call("POST", f"/secrets/{fake['commented']}/restricted", json=commented)
    assert read.json()["items"][1]["itemValue"] == "first-password"
    path = f"/secrets/{fake['commented']}/restricted/fields/password"
    assert call("POST", path, json=commented).json() == "first-password"

    # A read that must not check out does not; one that does not say so does.
    assert call("GET", f"/secrets/{exclusive}", params=NO_CHECKOUT).status_code == 400
    state = call("GET", f"/secrets/{exclusive}/state").json()
    assert state["secretState"] == "RequiresCheckout" and not state["isCheckedOut"]
    assert server.get_secret(exclusive)["checkedOut"]
    assert call("GET", f"/secrets/{exclusive}/state").json()["isCheckedOutByCurrentUser"]
    longer = {"data": {"minutesToAdd": 30}}
    assert call("POST", f"/secrets/{exclusive}/extend-check-out", json=longer).json()["checkOutEndTime"]
    assert call("POST", f"/secrets/{exclusive}/check-in", json={}).json()["id"] == exclusive
    taken = call("POST", f"/secrets/{exclusive}/check-out", json={})
    assert taken.json() == {"responseCodes": []}
    assert call("POST", f"/secrets/{exclusive}/check-in", json={}).status_code == 200

    assert requests.get(server.api_url + "/secrets/1000", timeout=60).status_code == 401


def refused(call, *arguments, by=SecretServerClientError):
    try:
        call(*arguments)
    except by:
        return
    raise AssertionError(f"{call} was not refused")


FAKE = json.loads(os.environ["FAKE_MANAGER"])
os.environ["REQUESTS_CA_BUNDLE"] = FAKE["ca"]
main(FAKE)
