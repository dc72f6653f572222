//! Listings for people: a page of references.

use super::IbmCloud;
use super::known::GroupIds;
use super::place::{Named, Place, SecretType};
use super::wire::{ListPage, Metadata};
use crate::route::{Route, at};
use crate::{Effect, Fault, ListQuery, Listed, ManagerError, Page, SecretRef};

impl IbmCloud {
    pub(super) async fn list_page(&self, query: &ListQuery) -> Result<Page, ManagerError> {
        let (group, kind) = folder(&query.prefix)?;
        let offset: u64 = match &query.page {
            None => 0,
            Some(page) => page
                .parse()
                .map_err(|_| invalid("the page is none of this list"))?,
        };
        let mut route = at("/api/v2/secrets", &[])
            .with("sort", "created_at")
            .with("limit", PAGE)
            .with("offset", offset)
            .with_some("secret_types", kind.map(SecretType::as_str));
        if let Some(name) = group {
            match self.group_id(name).await? {
                Some(id) => route = route.with("groups", id),
                None => return Ok(Page::default()),
            }
        }
        let (reply, _) = self.page(narrowed(route, query)?).await?;
        let page: ListPage<'_> = reply.json()?;
        let next = page.next(offset)?.map(|next| next.to_string());
        let groups = self.groups().await?;
        let listed = page
            .secrets()?
            .iter()
            .map(|found| self.listed(found, &groups))
            .collect();
        Ok(Page {
            entries: listed,
            next,
        })
    }

    fn listed(&self, found: &Metadata, groups: &GroupIds) -> Listed {
        let effect = match found.secret_type {
            SecretType::IamCredentials if !(found.reuse_api_key && self.share_reused) => {
                Effect::MintsAndInvalidates
            }
            _ => Effect::Pure,
        };
        Listed {
            path: path_of(found, groups),
            effect: Some(effect),
            labels: found.labels.clone(),
        }
    }
}

/// The folder's group and type.
fn folder(prefix: &str) -> Result<(Option<&str>, Option<SecretType>), ManagerError> {
    let parts: Vec<&str> = prefix.trim_end_matches('/').split('/').collect();
    match parts.as_slice() {
        [""] => Ok((None, None)),
        [group] => Ok((Some(group), None)),
        [group, kind] => match SecretType::named(kind) {
            Some(kind) => Ok((Some(group), Some(kind))),
            None => Err(invalid("no type of secrets is called like the folder")),
        },
        _ => Err(invalid("a folder here is <group>/ or <group>/<type>/")),
    }
}

fn narrowed(mut route: Route, query: &ListQuery) -> Result<Route, ManagerError> {
    if query.labels.iter().any(|label| label.contains(',')) {
        return Err(invalid("a label with a comma cannot be asked for"));
    }
    if !query.labels.is_empty() {
        route = route.with("match_all_labels", query.labels.join(","));
    }
    Ok(route.with_some("search", query.search.as_deref()))
}

/// By its names, or by its id where those are none for a reference.
fn path_of(found: &Metadata, groups: &GroupIds) -> String {
    let by_id = Place::Id(found.id.clone());
    let mut names = groups.iter();
    let Some((group, _)) = names.find(|(_, id)| **id == found.secret_group_id) else {
        return by_id.to_string();
    };
    let named = Place::Named(Named {
        group: group.clone(),
        kind: found.secret_type,
        name: found.name.clone(),
    });
    let path = named.to_string();
    let reference = format!("x:{path}").parse::<SecretRef>();
    match reference
        .ok()
        .and_then(|reference| Place::of(&reference).ok())
    {
        Some(meant) if meant == named => path,
        _ => by_id.to_string(),
    }
}

fn invalid(why: &str) -> ManagerError {
    ManagerError::new(Fault::Invalid, why)
}

const PAGE: u64 = 200;
