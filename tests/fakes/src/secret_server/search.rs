//! Searches for secrets: summaries, never values.

use serde_json::{Value, json};

use super::folders::is_true;
use super::store::Stored;
use super::{SecretServer, paged};
use crate::{Request, Response};

impl SecretServer {
    pub(super) fn search(&self, request: &Request, names_alone: bool) -> Response {
        let record = |secret: &Stored| -> Value {
            match names_alone {
                true => json!({"id": secret.id, "value": secret.name}),
                false => secret.summary(),
            }
        };
        let found = self.found(request).into_iter().map(record);
        paged(request, self.page, found.collect())
    }

    /// A bare number.
    pub(super) fn search_total(&self, request: &Request) -> Response {
        Response::json(200, &json!(self.found(request).len()))
    }

    /// The secret at `\a\b\name`.
    pub(super) fn id_at(&self, path: &str) -> Option<u64> {
        let (folder, name) = path
            .trim_start_matches('\\')
            .rsplit_once('\\')
            .unwrap_or(("", path));
        let there = |secret: &&Stored| {
            secret.active
                && secret.name.eq_ignore_ascii_case(name)
                && self.folder_path(secret.folder).eq_ignore_ascii_case(folder)
        };
        self.secrets.iter().find(there).map(|secret| secret.id)
    }

    fn folder_path(&self, id: i64) -> String {
        let folder = self.folders.iter().find(|folder| folder.id == id);
        let path = folder.map(|folder| self.path(folder)).unwrap_or_default();
        path.trim_start_matches('\\').to_owned()
    }

    fn found(&self, request: &Request) -> Vec<&Stored> {
        let is = |name: &str| request.query(name).is_some_and(is_true);
        let text = request
            .query("filter.searchText")
            .unwrap_or_default()
            .to_lowercase();
        let folder: Option<i64> = request
            .query("filter.folderId")
            .and_then(|id| id.parse().ok());
        let exact = is("filter.isExactMatch");
        let below = is("filter.includeSubFolders");
        let inactive = is("filter.includeInactive");
        let fits = |secret: &&Stored| {
            let name = secret.name.to_lowercase();
            let named = if exact {
                name == text
            } else {
                name.contains(&text)
            };
            let there = folder.is_none_or(|folder| {
                secret.folder == folder || (below && self.is_below(secret.folder, folder))
            });
            secret.visible && (secret.active || inactive) && named && there
        };
        self.secrets.iter().filter(fits).collect()
    }

    fn is_below(&self, folder: i64, above: i64) -> bool {
        let found = self.folders.iter().find(|known| known.id == folder);
        found.is_some_and(|found| found.parent == above || self.is_below(found.parent, above))
    }
}
