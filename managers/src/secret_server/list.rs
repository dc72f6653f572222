//! What there is: the folders of a folder, then its secrets. Never a value.

use std::collections::{HashMap, HashSet};

use super::api::Api;
use super::model::{Folder, Records, Summary};
use super::place::{from_manager, prefix, written};
use super::resolve::folder_at;
use crate::route::{Route, at};
use crate::{Fault, ListQuery, Listed, ManagerError, Page};

/// One page of a listing, or of a search below a folder.
pub(super) async fn page(api: &Api, query: &ListQuery) -> Result<Page, ManagerError> {
    let path = query.prefix.trim_end_matches('/');
    let folder = match path {
        "" => None,
        path => Some(folder_at(api, path).await?.id),
    };
    let cursor = Cursor::of(query)?;
    match cursor.part {
        Part::Folders => folders(api, path, folder, cursor.skip).await,
        Part::Secrets => secrets(api, path, folder, cursor.skip).await,
        Part::Found => {
            let text = query.search.as_deref().unwrap_or_default();
            found(api, text, folder, cursor.skip).await
        }
    }
}

/// Where a listing goes on.
struct Cursor {
    part: Part,
    skip: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Folders,
    Secrets,
    Found,
}

impl Cursor {
    fn of(query: &ListQuery) -> Result<Self, ManagerError> {
        let first = match query.search {
            Some(_) => Part::Found,
            None => Part::Folders,
        };
        let Some(text) = &query.page else {
            return Ok(Self {
                part: first,
                skip: 0,
            });
        };
        let known = [Part::Folders, Part::Secrets, Part::Found];
        let parsed = known.into_iter().find_map(|part| {
            let skip = text.strip_prefix(part.word())?.parse().ok()?;
            Some(Self { part, skip })
        });
        parsed
            .filter(|cursor| (cursor.part == Part::Found) == (first == Part::Found))
            .ok_or_else(|| ManagerError::new(Fault::Invalid, "the page is none of this listing"))
    }

    fn text(part: Part, skip: u64) -> String {
        format!("{}{skip}", part.word())
    }
}

impl Part {
    fn word(self) -> &'static str {
        match self {
            Self::Folders => "folders-",
            Self::Secrets => "secrets-",
            Self::Found => "found-",
        }
    }
}

async fn folders(
    api: &Api,
    path: &str,
    folder: Option<i64>,
    skip: u64,
) -> Result<Page, ManagerError> {
    let route = at("/api/v1/folders", &[]);
    let route = match folder {
        Some(id) => route.with("filter.parentFolderId", id),
        None => route.with("filter.onlyIncludeRootFolders", true),
    };
    let records: Records<Folder> = api.get(part(route, skip), LISTING).await?;
    let parent = folder.unwrap_or(TOP);
    let here = |found: &&Folder| found.parent_folder_id.is_none_or(|id| id == parent);
    let entries = records.records.iter().filter(here).filter_map(|found| {
        // What no reference can name cannot be walked into by name either.
        let path = written(path, &found.folder_name)?;
        Some(listed(format!("{path}/")))
    });
    let next = match (records.next(skip), folder) {
        (Some(next), _) => Some(Cursor::text(Part::Folders, next)),
        // Secrets in no folder at all cannot be asked for.
        (None, None) => None,
        (None, Some(_)) => Some(Cursor::text(Part::Secrets, 0)),
    };
    Ok(Page {
        entries: entries.collect(),
        next,
    })
}

async fn secrets(
    api: &Api,
    path: &str,
    folder: Option<i64>,
    skip: u64,
) -> Result<Page, ManagerError> {
    let route = secrets_below(folder);
    let records: Records<Summary> = api.get(part(route, skip), LISTING).await?;
    let here = |found: &&Summary| found.folder_id == folder;
    let found: Vec<_> = records.records.iter().filter(here).collect();
    let paths = found.iter().map(|secret| written(path, &secret.name));
    Ok(Page {
        entries: named(&found, paths.collect()),
        next: records
            .next(skip)
            .map(|next| Cursor::text(Part::Secrets, next)),
    })
}

async fn found(
    api: &Api,
    text: &str,
    folder: Option<i64>,
    skip: u64,
) -> Result<Page, ManagerError> {
    let route = secrets_below(folder)
        .with("filter.searchText", text)
        .with("filter.includeSubFolders", true);
    let records: Records<Summary> = api.get(part(route, skip), LISTING).await?;
    let mut folders: HashMap<i64, Option<String>> = HashMap::from([(TOP, Some(String::new()))]);
    let mut paths = Vec::with_capacity(records.records.len());
    for secret in &records.records {
        let id = secret.folder_id.unwrap_or(TOP);
        if let std::collections::hash_map::Entry::Vacant(unknown) = folders.entry(id) {
            unknown.insert(path_of(api, id).await?);
        }
        let folder = folders.get(&id).and_then(Option::as_deref);
        paths.push(folder.and_then(|folder| written(folder, &secret.name)));
    }
    let found: Vec<_> = records.records.iter().collect();
    Ok(Page {
        entries: named(&found, paths),
        next: records
            .next(skip)
            .map(|next| Cursor::text(Part::Found, next)),
    })
}

/// The folder's path; none where it may not be seen or cannot be written.
async fn path_of(api: &Api, id: i64) -> Result<Option<String>, ManagerError> {
    let route = at("/api/v1/folders/{id}", &[&id.to_string()]);
    match api.get::<Folder>(route, LISTING).await {
        Ok(folder) => Ok(folder.folder_path.as_deref().and_then(from_manager)),
        Err(error) if error.fault == Fault::NotFoundOrDenied => Ok(None),
        Err(error) => Err(error),
    }
}

/// Every secret under a reference that means it: by its number where its path cannot be written, or
/// is another one's too.
fn named(found: &[&Summary], paths: Vec<Option<String>>) -> Vec<Listed> {
    let mut once = HashSet::new();
    let mut twice = HashSet::new();
    for path in paths.iter().flatten() {
        if !once.insert(path) {
            twice.insert(path.clone());
        }
    }
    let pairs = found.iter().zip(&paths);
    let entry = |(secret, path): (&&Summary, &Option<String>)| match path {
        Some(path) if !twice.contains(path) => listed(path.clone()),
        _ => listed(format!("{}{}", prefix("id"), secret.id)),
    };
    pairs.map(entry).collect()
}

fn listed(path: String) -> Listed {
    Listed {
        path,
        effect: None,
        labels: Vec::new(),
    }
}

fn secrets_below(folder: Option<i64>) -> Route {
    at("/api/v1/secrets", &[])
        .with("filter.includeRestricted", true)
        .with_some("filter.folderId", folder)
}

fn part(route: Route, skip: u64) -> Route {
    route.with("skip", skip).with("take", PAGE)
}

const LISTING: &str = "a listing";
/// What the manager calls the folder of what is in none.
const TOP: i64 = -1;
const PAGE: u64 = 100;
