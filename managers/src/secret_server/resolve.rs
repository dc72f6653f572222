//! From a path to the manager's number, without a value: the manager's own look-up by path gives the
//! values with it, and may check the secret out.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::api::Api;
use super::errors::absent_or_denied;
use super::model::{Folder, Records, Summary};
use super::place::{Place, at_manager};
use crate::route::at;
use crate::{Fault, ManagerError};

/// The numbers of secrets that were looked up lately.
#[derive(Default)]
pub(super) struct Numbers(Mutex<HashMap<Place, Known>>);

#[derive(Debug, Clone, Copy)]
struct Known {
    number: Number,
    since: Instant,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    /// The secret.
    pub(super) id: u64,
    /// The folder that it must be in to be the one that is meant; absent where only the number is.
    folder: Option<i64>,
}

impl Number {
    /// Whether the secret that has this number is still the one that the place means: it may have been
    /// renamed or moved.
    pub(super) fn is(&self, place: &Place, summary: &Summary) -> bool {
        let there = match (place, self.folder) {
            (Place::Path { name, .. }, Some(folder)) => {
                summary.name == *name && summary.folder_id.unwrap_or(TOP) == folder
            }
            _ => true,
        };
        there && summary.id == self.id
    }
}

impl Numbers {
    /// The secret's number, looked up where it is not known.
    pub(super) async fn of(&self, api: &Api, place: &Place) -> Result<Number, ManagerError> {
        let (folder, name) = match place {
            Place::Id(id) => {
                return Ok(Number {
                    id: *id,
                    folder: None,
                });
            }
            Place::Path { folder, name } => (folder, name),
        };
        if let Some(known) = self.known(place) {
            return Ok(known);
        }
        let folder = match folder.as_str() {
            "" => TOP,
            path => folder_at(api, path).await?.id,
        };
        let number = Number {
            id: secret_in(api, folder, name).await?,
            folder: Some(folder),
        };
        self.keep(place.clone(), number);
        Ok(number)
    }

    /// Looks the number up anew the next time.
    pub(super) fn forget(&self, place: &Place) {
        self.lock().remove(place);
    }

    fn known(&self, place: &Place) -> Option<Number> {
        let known = self.lock().get(place).copied()?;
        (known.since.elapsed() < GOOD_FOR).then_some(known.number)
    }

    /// Believes this number for a while.
    pub(super) fn keep(&self, place: Place, number: Number) {
        let mut known = self.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let since = Instant::now();
        known.insert(place, Known { number, since });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folder at this path, written exactly so: the manager itself does not mind the case, and one
/// secret must not have two names here.
pub(super) async fn folder_at(api: &Api, path: &str) -> Result<Folder, ManagerError> {
    let wanted = at_manager(path);
    let route = at("/api/v1/folders/0", &[]).with("folderPath", &wanted);
    let folder: Folder = api.get(route, "a look for the folder").await?;
    let exact = match &folder.folder_path {
        Some(path) => path.trim_start_matches('\\') == wanted.trim_start_matches('\\'),
        None => false,
    };
    if exact {
        Ok(folder)
    } else {
        Err(absent_or_denied())
    }
}

/// The one secret of this name right in the folder.
async fn secret_in(api: &Api, folder: i64, name: &str) -> Result<u64, ManagerError> {
    let (mut found, mut skip) = (None, 0);
    for _ in 0..MAX_PAGES {
        let route = at("/api/v1/secrets", &[])
            .with("filter.searchText", name)
            .with("filter.isExactMatch", true)
            .with_some("filter.folderId", (folder != TOP).then_some(folder))
            .with("filter.includeRestricted", true)
            .with("skip", skip)
            .with("take", PAGE);
        let page: Records<Summary> = api.get(route, "a search for the secret").await?;
        let here =
            |summary: &&Summary| summary.name == name && summary.folder_id.unwrap_or(TOP) == folder;
        for summary in page.records.iter().filter(here) {
            if found.replace(summary.id).is_some() {
                return Err(ManagerError::new(
                    Fault::Unsupported,
                    "more than one secret has this path: refer to the one that is meant by id/<number>",
                ));
            }
        }
        match page.next(skip) {
            Some(next) => skip = next,
            None => break,
        }
    }
    found.ok_or_else(absent_or_denied)
}

/// What the manager calls the folder of what is in none.
const TOP: i64 = -1;
const PAGE: u64 = 200;
const MAX_PAGES: usize = 20;
const MAX_KNOWN: usize = 10_000;
/// How long a folder may have been renamed or moved before that is noticed.
const GOOD_FOR: Duration = Duration::from_secs(5 * 60);
