//! Reads of values, and what stands before them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::store::{Item, ItemKind, Stored};
use super::{Counters, SecretServer, access_denied, bad_request, paged, refused};
use crate::{Request, Response};

impl SecretServer {
    /// The whole secret, by its number or by `secretPath` with number 0.
    pub(super) fn whole(&mut self, request: &Request, id: &str, now: Timestamp) -> Response {
        let id = match (id, request.query("secretPath")) {
            ("0", Some(path)) => match self.id_at(path) {
                Some(id) => id.to_string(),
                None => return access_denied(),
            },
            _ => id.to_owned(),
        };
        self.with_id(&id, |secret, counters| {
            if let Some(refusal) = secret.refusal(request, counters, now) {
                return refusal;
            }
            *counters.values_given += 1;
            counters.note(secret, "VIEW", "Edge Hub", now);
            Response::json(200, &secret.whole(now))
        })
    }

    /// One field: JSON, or a file's bytes.
    pub(super) fn field(
        &mut self,
        request: &Request,
        id: &str,
        slug: &str,
        now: Timestamp,
    ) -> Response {
        if id == "0"
            && let Some(found) = request
                .query("secretPath")
                .and_then(|path| self.id_at(path))
        {
            return self.field_of(request, &found.to_string(), slug, now);
        }
        self.field_of(request, id, slug, now)
    }

    fn field_of(&mut self, request: &Request, id: &str, slug: &str, now: Timestamp) -> Response {
        self.with_id(id, |secret, counters| {
            if let Some(refusal) = secret.refusal(request, counters, now) {
                return refusal;
            }
            let item = secret.items.iter().find(|item| item.slug == slug).cloned();
            let Some(item) = item else {
                return bad_request("The field does not exist.");
            };
            *counters.values_given += 1;
            counters.note(secret, "VIEW", "Edge Hub", now);
            match item.kind {
                ItemKind::File => Response::text(200, "application/octet-stream", item.value),
                _ => Response::json(200, &json!(item.shown())),
            }
        })
    }

    pub(super) fn audits(&mut self, request: &Request, id: &str) -> Response {
        if !self.audits_permitted {
            return access_denied();
        }
        let largest = self.page;
        self.with_id(id, |secret, _| {
            let mut records = secret.audits.clone();
            if request.query("sortBy[0].direction") == Some("desc") {
                records.reverse();
            }
            paged(request, largest, records)
        })
    }

    pub(super) fn view_comment(&mut self, request: &Request, id: &str) -> Response {
        let comment = request.json();
        self.with_id(id, |secret, _| match comment["comment"].as_str() {
            Some(comment) if !comment.is_empty() => {
                secret.commented = true;
                Response::json(200, &json!({"success": true}))
            }
            _ => bad_request("The request is invalid."),
        })
    }
}

impl Stored {
    /// Why the values are not given. A read that does not say otherwise checks the secret out.
    fn refusal(
        &mut self,
        request: &Request,
        counters: &mut Counters<'_>,
        now: Timestamp,
    ) -> Option<Response> {
        let body = request.json();
        if body
            .as_object()
            .is_some_and(|body| body.values().any(|value| value == ""))
        {
            return Some(bad_request("The request is invalid."));
        }
        if !self.active {
            return Some(access_denied());
        }
        if self.state_override.is_some() || self.wants_approval {
            return Some(bad_request("Access to the secret is restricted."));
        }
        if self.wants_comment && !self.commented && body["comment"].as_str().is_none() {
            let message = "The requested Secret requires a comment when viewed.";
            return Some(refused("API_ValidateSecretAccessCommentRequired", message));
        }
        if self.checkout.is_none() || self.is_ours() {
            return None;
        }
        let without = request
            .query("noAutoCheckout")
            .is_some_and(|text| text.eq_ignore_ascii_case("true"))
            || body["noAutoCheckout"] == true;
        if without || self.checked_out.is_some() || self.change_pending {
            return Some(bad_request("The secret is not checked out."));
        }
        self.take(counters, now);
        None
    }

    fn whole(&self, now: Timestamp) -> Value {
        let items = self.items.iter().enumerate();
        let items: Vec<_> = items.map(|(at, item)| self.item(at, item)).collect();
        let (user, left) = self.holder(now);
        json!({
            "id": self.id,
            "name": self.name,
            "folderId": self.folder,
            "siteId": 1,
            "secretTemplateId": 6003,
            "secretTemplateName": "Web Password",
            "active": self.active,
            "items": items,
            "checkedOut": self.checked_out.is_some(),
            "checkOutEnabled": self.checkout.is_some(),
            "checkOutIntervalMinutes": self.interval(),
            "checkOutMinutesRemaining": left,
            "checkOutUserId": user,
            "checkOutUserDisplayName": "",
            "checkOutChangePasswordEnabled": self.changes_at_check_in,
            "autoChangeEnabled": false,
            "requiresComment": self.wants_comment,
            "requiresApprovalForAccess": self.wants_approval,
            "isDoubleLock": false,
            "isRestricted": self.wants_comment || self.wants_approval || self.checkout.is_some(),
            "isOutOfSync": self.out_of_sync,
            "outOfSyncReason": "",
            "lastHeartBeatStatus": "Pending",
            "lastHeartBeatCheck": "0001-01-01T00:00:00",
            "lastPasswordChangeAttempt": self.changed(),
            "failedPasswordChangeAttempts": 0,
            "responseCodes": [],
        })
    }

    fn item(&self, at: usize, item: &Item) -> Value {
        let is_file = matches!(item.kind, ItemKind::File | ItemKind::NoFile);
        let is_password = item.kind == ItemKind::Password;
        let value = match item.kind {
            ItemKind::File => json!("*** Not Valid For Display ***"),
            ItemKind::NoFile => Value::Null,
            ItemKind::Password if self.hides_passwords => Value::Null,
            _ => json!(item.shown()),
        };
        json!({
            "itemId": 5000 + at,
            "fieldId": 60 + at,
            "fieldName": item.slug,
            "slug": item.slug,
            "fieldDescription": "",
            "filename": if is_file { json!("attached.bin") } else { Value::Null },
            "fileAttachmentId": if item.kind == ItemKind::File { json!(40 + at) } else { Value::Null },
            "itemValue": value,
            "isFile": is_file,
            "isNotes": false,
            "isPassword": is_password,
            "isList": false,
            "listType": "None",
        })
    }
}
