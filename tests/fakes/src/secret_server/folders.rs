//! Folders: looked up, listed, found by their path.

use serde_json::{Value, json};

use super::store::Folder;
use super::{SecretServer, access_denied, no_route, paged};
use crate::{Request, Response};

impl SecretServer {
    pub(super) fn folders(&self, request: &Request, rest: &[&str]) -> Response {
        match rest {
            [] => {
                let found = self.matching(request);
                paged(
                    request,
                    self.page,
                    found.map(|folder| self.record(folder)).collect(),
                )
            }
            ["lookup"] => {
                let found = self.matching(request);
                let record = |folder: &Folder| json!({"id": folder.id, "value": folder.name});
                paged(request, self.page, found.map(record).collect())
            }
            ["0"] => {
                let path = request.query("folderPath").unwrap_or_default();
                let path = path.trim_start_matches('\\');
                // The original's database does not mind the case.
                let there = |folder: &&Folder| {
                    self.path(folder)
                        .trim_start_matches('\\')
                        .eq_ignore_ascii_case(path)
                };
                self.one(request, self.folders.iter().find(there))
            }
            [id] => match id.parse::<i64>() {
                Ok(id) => self.one(request, self.folders.iter().find(|folder| folder.id == id)),
                Err(_) => no_route(),
            },
            _ => no_route(),
        }
    }

    /// `\a\b`.
    pub(super) fn path(&self, folder: &Folder) -> String {
        let parent = self
            .folders
            .iter()
            .find(|parent| parent.id == folder.parent);
        let above = parent.map(|parent| self.path(parent)).unwrap_or_default();
        format!("{above}\\{}", folder.name)
    }

    fn one(&self, request: &Request, folder: Option<&Folder>) -> Response {
        let Some(folder) = folder.filter(|folder| folder.visible) else {
            return access_denied();
        };
        let mut body = self.record(folder);
        if request.query("getAllChildren").is_some_and(is_true) {
            let children = self
                .folders
                .iter()
                .filter(|child| child.parent == folder.id);
            body["childFolders"] = children.map(|child| self.record(child)).collect();
        }
        Response::json(200, &body)
    }

    fn matching(&self, request: &Request) -> impl Iterator<Item = &Folder> {
        let parent: Option<i64> = request
            .query("filter.parentFolderId")
            .and_then(|id| id.parse().ok());
        let roots = request
            .query("filter.onlyIncludeRootFolders")
            .is_some_and(is_true);
        let text = request
            .query("filter.searchText")
            .unwrap_or_default()
            .to_lowercase();
        self.folders.iter().filter(move |folder| {
            folder.visible
                && parent.is_none_or(|parent| folder.parent == parent)
                && (!roots || folder.parent == -1)
                && folder.name.to_lowercase().contains(&text)
        })
    }

    fn record(&self, folder: &Folder) -> Value {
        json!({
            "id": folder.id,
            "folderName": folder.name,
            "folderPath": self.path(folder),
            "parentFolderId": folder.parent,
            "folderTypeId": 1,
            "secretPolicyId": -1,
            "inheritPermissions": true,
            "inheritSecretPolicy": true,
        })
    }
}

pub(super) fn is_true(text: &str) -> bool {
    text.eq_ignore_ascii_case("true")
}
