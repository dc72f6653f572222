//! What the manager answers, as far as it is used. Everything that may be unset may be null.

use serde::Deserialize;

use crate::payload::SecretText;

/// A token and what it is renewed by.
#[derive(Deserialize)]
pub(super) struct Grant {
    pub(super) access_token: SecretText,
    pub(super) expires_in: Seconds,
    pub(super) refresh_token: Option<SecretText>,
}

/// A number, or the text of one.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Seconds {
    Number(u64),
    Text(String),
}

impl Seconds {
    pub(super) fn get(&self) -> Option<u64> {
        match self {
            Self::Number(seconds) => Some(*seconds),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

/// A secret without its values.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) folder_id: Option<i64>,
    pub(super) active: Option<bool>,
    pub(super) check_out_enabled: Option<bool>,
    pub(super) requires_comment: Option<bool>,
    pub(super) is_out_of_sync: Option<bool>,
    pub(super) last_password_change_attempt: Option<String>,
}

/// What stands between an account and a secret's values now.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    pub(super) id: u64,
    pub(super) secret_state: Option<String>,
    pub(super) is_active: Option<bool>,
    pub(super) is_checked_out: Option<bool>,
    pub(super) is_checked_out_by_current_user: Option<bool>,
    pub(super) check_out_minutes_remaining: Option<i64>,
    pub(super) check_out_interval_minutes: Option<i64>,
}

/// A secret's values.
#[derive(Deserialize)]
pub(super) struct Values {
    pub(super) id: u64,
    pub(super) items: Vec<Item>,
}

/// One field of a secret.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    pub(super) slug: String,
    pub(super) item_value: Option<SecretText>,
    pub(super) is_file: Option<bool>,
    pub(super) is_password: Option<bool>,
    pub(super) file_attachment_id: Option<i64>,
}

/// A folder; at the top its parent is -1.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Folder {
    pub(super) id: i64,
    pub(super) folder_name: String,
    pub(super) folder_path: Option<String>,
    pub(super) parent_folder_id: Option<i64>,
}

/// What somebody did with a secret.
#[derive(Debug, Deserialize)]
pub(super) struct Audit {
    pub(super) id: u64,
    pub(super) action: Option<String>,
}

/// A part of a listing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Records<T> {
    pub(super) records: Vec<T>,
    pub(super) has_next: Option<bool>,
    pub(super) next_skip: Option<u64>,
}

impl<T> Records<T> {
    /// Where the next part begins, when there is one behind `skip`.
    pub(super) fn next(&self, skip: u64) -> Option<u64> {
        let more = self.has_next == Some(true);
        self.next_skip.filter(|next| more && *next > skip)
    }
}

/// How the manager says that it is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Healthcheck {
    #[serde(alias = "Healthy")]
    pub(super) healthy: Option<bool>,
    pub(super) database_healthy: Option<bool>,
    pub(super) read_only_mode: Option<bool>,
}
