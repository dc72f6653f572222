//! What the stand-in keeps, and the hands that change it.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{Counters, HUB_USER, SecretServer};

/// A secret. What is public may be changed at any time.
pub struct Stored {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its folder; -1 when it is in none.
    pub folder: i64,
    /// Its fields.
    pub items: Vec<Item>,
    /// Whether it is not deactivated.
    pub active: bool,
    /// Whether the hub's account may see it.
    pub visible: bool,
    /// Whether passwords are left out of the whole secret.
    pub hides_passwords: bool,
    /// Whether a view wants a comment.
    pub wants_comment: bool,
    /// Whether a view wants an approval that is not there.
    pub wants_approval: bool,
    /// What `state` says instead of the truth.
    pub state_override: Option<&'static str>,
    /// How long it is checked out for; absent when it need not be.
    pub checkout: Option<Duration>,
    /// Whether the password changes at check-in.
    pub changes_at_check_in: bool,
    /// Whether a change of the password is under way, so that nobody may check it out.
    pub change_pending: bool,
    /// Whether the account behind it has another password.
    pub out_of_sync: bool,
    /// Who has it checked out, and until when.
    pub checked_out: Option<(i64, Timestamp)>,
    pub(super) commented: bool,
    pub(super) changed: Option<Timestamp>,
    pub(super) audits: Vec<Value>,
    changes: u32,
}

/// A field of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its name in addresses.
    pub slug: String,
    /// Its value; a file's content.
    pub value: Vec<u8>,
    /// What it is.
    pub kind: ItemKind,
}

/// What a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemKind {
    /// A text.
    Text,
    /// A password.
    Password,
    /// A file.
    File,
    /// A file that was never attached.
    NoFile,
}

pub(super) struct Folder {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) parent: i64,
    pub(super) visible: bool,
}

impl Item {
    /// A text.
    #[must_use]
    pub fn text(slug: &str, value: &str) -> Self {
        Self::new(slug, value.as_bytes(), ItemKind::Text)
    }

    /// A password.
    #[must_use]
    pub fn password(slug: &str, value: &str) -> Self {
        Self::new(slug, value.as_bytes(), ItemKind::Password)
    }

    /// A file.
    #[must_use]
    pub fn file(slug: &str, content: &[u8]) -> Self {
        Self::new(slug, content, ItemKind::File)
    }

    /// A field of this kind.
    #[must_use]
    pub fn new(slug: &str, value: &[u8], kind: ItemKind) -> Self {
        Self {
            slug: slug.to_owned(),
            value: value.to_vec(),
            kind,
        }
    }

    /// The value as text.
    #[must_use]
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.value).into_owned()
    }
}

impl SecretServer {
    /// The folder at this path, its parts with `/` between, made where it is not there.
    pub fn folder(&mut self, path: &str) -> i64 {
        let mut parent = -1;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let known = self.folders.iter();
            let known = known
                .filter(|folder| folder.parent == parent && folder.name == name)
                .map(|folder| folder.id)
                .next();
            parent = known.unwrap_or_else(|| {
                let id = 100 + self.folders.len() as i64;
                self.folders.push(Folder {
                    id,
                    name: name.to_owned(),
                    parent,
                    visible: true,
                });
                id
            });
        }
        parent
    }

    /// Renames a folder.
    pub fn rename_folder(&mut self, id: i64, name: &str) {
        for folder in self.folders.iter_mut().filter(|folder| folder.id == id) {
            folder.name = name.to_owned();
        }
    }

    /// Hides a folder from the hub's account, or shows it.
    pub fn show_folder(&mut self, id: i64, visible: bool) {
        for folder in self.folders.iter_mut().filter(|folder| folder.id == id) {
            folder.visible = visible;
        }
    }

    /// Adds a secret to a folder, and says its number.
    pub fn add(&mut self, folder: &str, name: &str, items: &[Item]) -> u64 {
        let folder = self.folder(folder);
        let id = 1000 + self.secrets.len() as u64;
        self.secrets.push(Stored {
            id,
            name: name.to_owned(),
            folder,
            items: items.to_vec(),
            active: true,
            visible: true,
            hides_passwords: false,
            wants_comment: false,
            wants_approval: false,
            state_override: None,
            checkout: None,
            changes_at_check_in: false,
            change_pending: false,
            out_of_sync: false,
            checked_out: None,
            commented: false,
            changed: None,
            audits: Vec::new(),
            changes: 0,
        });
        self.note(id, "CREATE", Timestamp::now());
        id
    }

    /// A secret, to look at or to change without a trace.
    ///
    /// # Panics
    /// When there is none.
    pub fn secret(&mut self, id: u64) -> &mut Stored {
        let mut secrets = self.secrets.iter_mut();
        secrets.find(|secret| secret.id == id).expect("a secret")
    }

    /// The manager changes a field by itself: its date moves.
    pub fn rotate(&mut self, id: u64, slug: &str, value: &str, now: Timestamp) {
        let secret = self.secret(id);
        secret.set(slug, value);
        secret.changed = Some(now);
    }

    /// A person changes a field: nothing moves but the audit.
    pub fn edit(&mut self, id: u64, slug: &str, value: &str, now: Timestamp) {
        self.secret(id).set(slug, value);
        self.note(id, "EDIT", now);
    }

    /// A person does something that leaves a line in the audit.
    pub fn note(&mut self, id: u64, action: &str, now: Timestamp) {
        let mut counters = Counters {
            values_given: &mut self.values_given,
            checkouts: &mut self.checkouts,
            audits: &mut self.audits,
        };
        let mut secrets = self.secrets.iter_mut();
        if let Some(secret) = secrets.find(|secret| secret.id == id) {
            counters.note(secret, action, "Alice Example", now);
        }
    }
}

impl Stored {
    fn set(&mut self, slug: &str, value: &str) {
        for item in self.items.iter_mut().filter(|item| item.slug == slug) {
            item.value = value.as_bytes().to_vec();
        }
    }

    /// Every password becomes another one.
    pub(super) fn change_passwords(&mut self, now: Timestamp) {
        self.changes += 1;
        let passwords = self.items.iter_mut();
        for item in passwords.filter(|item| item.kind == ItemKind::Password) {
            item.value = format!("changed-at-check-in-{}", self.changes).into_bytes();
        }
        self.changed = Some(now);
    }

    /// Whether the hub's account has it checked out.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.checked_out.is_some_and(|(user, _)| user == HUB_USER)
    }

    pub(super) fn summary(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "folderId": self.folder,
            "secretTemplateId": 6003,
            "secretTemplateName": "Web Password",
            "siteId": 1,
            "active": self.active,
            "checkedOut": self.checked_out.is_some(),
            "checkOutEnabled": self.checkout.is_some(),
            "createDate": "2024-01-01T00:00:00.123",
            "daysUntilExpiration": null,
            "lastPasswordChangeAttempt": self.changed(),
            "lastAccessed": null,
            "lastHeartBeatStatus": "Pending",
            "requiresApproval": self.wants_approval,
            "requiresComment": self.wants_comment,
            "doubleLockEnabled": false,
            "hidePassword": self.hides_passwords,
            "isRestricted": self.wants_comment || self.wants_approval || self.checkout.is_some(),
            "isOutOfSync": self.out_of_sync,
            "inheritsPermissions": true,
            "autoChangeEnabled": false,
            "extendedFields": [],
            "responseCodes": [],
        })
    }

    pub(super) fn changed(&self) -> String {
        self.changed.map_or_else(|| NEVER.to_owned(), naive)
    }
}

/// A date as the original writes it: of no zone.
pub(super) fn naive(at: Timestamp) -> String {
    let at = at.to_zoned(TimeZone::UTC);
    at.strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string()
}

const NEVER: &str = "0001-01-01T00:00:00";
