//! Who has a secret for themselves, and for how long.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::store::{Stored, naive};
use super::{Counters, HUB_USER, SecretServer, bad_request};
use crate::{Request, Response};

impl SecretServer {
    /// What is over is checked in by itself.
    pub(super) fn end_checkouts(&mut self, now: Timestamp) {
        for secret in &mut self.secrets {
            if secret.checked_out.is_some_and(|(_, until)| until <= now) {
                secret.put_back(now);
            }
        }
    }

    pub(super) fn check_out(&mut self, id: &str, now: Timestamp) -> Response {
        self.with_id(id, |secret, counters| {
            let may = secret.checkout.is_some()
                && secret.checked_out.is_none()
                && !secret.change_pending
                && !secret.wants_approval
                && (!secret.wants_comment || secret.commented);
            if !may {
                return bad_request("The secret cannot be checked out.");
            }
            secret.take(counters, now);
            counters.note(secret, "CHECK OUT", "Edge Hub", now);
            Response::json(200, &json!({"responseCodes": []}))
        })
    }

    pub(super) fn check_in(&mut self, id: &str, now: Timestamp) -> Response {
        self.with_id(id, |secret, counters| {
            if !secret.is_ours() {
                return bad_request("The secret is not checked out.");
            }
            secret.put_back(now);
            counters.note(secret, "CHECK IN", "Edge Hub", now);
            Response::json(200, &secret.summary())
        })
    }

    pub(super) fn extend(&mut self, request: &Request, id: &str, now: Timestamp) -> Response {
        let extendable = self.extendable;
        let minutes = request.json()["data"]["minutesToAdd"].as_u64();
        self.with_id(id, |secret, counters| {
            let (Some(minutes), Some((HUB_USER, until)), true) =
                (minutes, secret.checked_out, extendable)
            else {
                return bad_request("The check out cannot be extended.");
            };
            let until = until + Duration::from_secs(minutes * 60);
            secret.checked_out = Some((HUB_USER, until));
            counters.note(secret, "EXTEND CHECK OUT", "Edge Hub", now);
            Response::json(200, &json!({"checkOutEndTime": naive(until)}))
        })
    }
}

impl Stored {
    pub(super) fn take(&mut self, counters: &mut Counters<'_>, now: Timestamp) {
        let interval = self.checkout.unwrap_or_default();
        self.checked_out = Some((HUB_USER, now + interval));
        *counters.checkouts += 1;
    }

    fn put_back(&mut self, now: Timestamp) {
        self.checked_out = None;
        self.commented = false;
        if self.changes_at_check_in {
            self.change_passwords(now);
        }
    }

    pub(super) fn interval(&self) -> Option<u64> {
        self.checkout.map(|interval| interval.as_secs() / 60)
    }

    /// The user who has it, -1 for none, and the minutes that are left.
    pub(super) fn holder(&self, now: Timestamp) -> (i64, Option<i64>) {
        match self.checked_out {
            Some((user, until)) => (user, Some(until.duration_since(now).as_mins())),
            None => (-1, None),
        }
    }

    pub(super) fn state(&self, now: Timestamp) -> Value {
        let (user, left) = self.holder(now);
        json!({
            "id": self.id,
            "secretName": self.name,
            "folderId": self.folder,
            "folderName": null,
            "secretState": self.state_name(),
            "isCheckedOut": self.checked_out.is_some(),
            "checkedOutUserId": if user < 0 { Value::Null } else { json!(user) },
            "checkedOutUserDisplayName": null,
            "isCheckedOutByCurrentUser": user == HUB_USER,
            "checkOutMinutesRemaining": left,
            "checkOutIntervalMinutes": self.interval(),
            "approvalEnd": null,
            "passwordChangePending": self.change_pending,
            "isActive": self.active,
            "role": "View",
            "actions": [],
        })
    }

    fn state_name(&self) -> &'static str {
        if let Some(name) = self.state_override {
            return name;
        }
        let comment = self.wants_comment && !self.commented;
        if !self.active {
            "RequiresUndelete"
        } else if self.wants_approval {
            "RequiresApproval"
        } else if self.checkout.is_some() && !self.is_ours() {
            match (self.change_pending, comment) {
                (true, _) => "RequiresCheckoutPendingRPC",
                (_, true) => "RequiresCheckoutAndComment",
                _ => "RequiresCheckout",
            }
        } else if comment {
            "RequiresComment"
        } else {
            "None"
        }
    }
}
