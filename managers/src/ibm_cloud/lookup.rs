//! From names to ids by lists, which give no value and make no key. The endpoint that takes names is
//! never used: it gives the value with the id.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::IbmCloud;
use super::api::date_of;
use super::known::GroupIds;
use super::place::{Named, Place};
use super::wire::{Groups, ListPage, Metadata};
use crate::http::Reply;
use crate::route::{Route, at};
use crate::{Fault, ManagerError};

impl IbmCloud {
    /// What the service says of the secret now, and when it said so.
    pub(super) async fn metadata(
        &self,
        place: &Place,
    ) -> Result<(Arc<Metadata>, Timestamp), ManagerError> {
        let named = match place {
            Place::Id(id) => return self.metadata_of(id).await,
            Place::Named(named) => named,
        };
        let mut proof = false;
        if let Some(id) = self.known.id(named) {
            match self.metadata_of(&id).await {
                Ok((found, now)) if is(named, &found) => return Ok((found, now)),
                // Another name: it was renamed, and another may have its name now.
                Ok(_) => {}
                Err(error) if error.fault == Fault::Missing => proof = true,
                Err(error) => return Err(error),
            }
            self.known.forget_id(named);
        }
        let id = self.find(named, proof).await?;
        let (found, now) = self.metadata_of(&id).await?;
        match is(named, &found) {
            true => Ok((found, now)),
            false => Err(missing(place)),
        }
    }

    /// The secret's id, by memory where that has it.
    pub(super) async fn id_of(&self, place: &Place) -> Result<String, ManagerError> {
        match place {
            Place::Id(id) => Ok(id.clone()),
            Place::Named(named) => match self.known.id(named) {
                Some(id) => Ok(id),
                None => self.find(named, false).await,
            },
        }
    }

    /// A page of secrets' metadata, and when the service said so.
    pub(super) async fn page(&self, route: Route) -> Result<(Reply, Timestamp), ManagerError> {
        let reply = self.api.get(route).await.map_err(no_list)?;
        let now = date_of(&reply);
        Ok((reply, now))
    }

    /// The id of a group; none when the hub sees no such group.
    pub(super) async fn group_id(&self, name: &str) -> Result<Option<String>, ManagerError> {
        if name == DEFAULT {
            return Ok(Some(DEFAULT.into()));
        }
        if let Some(groups) = self.known.groups(GROUPS_FOR)
            && let Some(id) = groups.get(name)
        {
            return Ok(Some(id.clone()));
        }
        Ok(self.load_groups().await?.get(name).cloned())
    }

    /// All groups that the hub sees.
    pub(super) async fn groups(&self) -> Result<Arc<GroupIds>, ManagerError> {
        match self.known.groups(GROUPS_FOR) {
            Some(groups) => Ok(groups),
            None => self.load_groups().await,
        }
    }

    async fn load_groups(&self) -> Result<Arc<GroupIds>, ManagerError> {
        let reply = self.api.get(at("/api/v2/secret_groups", &[])).await;
        let reply = reply.map_err(no_list)?;
        let groups: Groups = reply.json()?;
        let ids = groups.secret_groups.into_iter().map(|g| (g.name, g.id));
        let mut ids: GroupIds = ids.take(MOST_GROUPS).collect();
        ids.insert(DEFAULT.into(), DEFAULT.into());
        let ids = Arc::new(ids);
        self.known.learn_groups(&ids);
        Ok(ids)
    }

    async fn metadata_of(&self, id: &str) -> Result<(Arc<Metadata>, Timestamp), ManagerError> {
        let route = at("/api/v2/secrets/{id}/metadata", &[id]);
        let reply = match self.api.get(route).await {
            Ok(reply) => reply,
            Err(error) => {
                if error.fault == Fault::Missing {
                    self.known.forget(id);
                }
                return Err(error);
            }
        };
        let metadata: Arc<Metadata> = Arc::new(reply.json()?);
        self.known.learn(&metadata);
        Ok((metadata, date_of(&reply)))
    }

    /// `proof`: that what had the name is gone. Else nobody knows whether an empty list is empty, or
    /// of a group that the hub may not see.
    async fn find(&self, named: &Named, proof: bool) -> Result<String, ManagerError> {
        let Some(group) = self.group_id(&named.group).await? else {
            return Err(ManagerError::new(
                Fault::NotFoundOrDenied,
                format!("the hub sees no secret group {:?} there", named.group),
            ));
        };
        let mut offset = Some(0);
        while let Some(from) = offset {
            let route = at("/api/v2/secrets", &[])
                .with("groups", &group)
                .with("secret_types", named.kind.as_str())
                .with("search", &named.name)
                .with("sort", "created_at")
                .with("limit", PAGE)
                .with("offset", from);
            let (reply, _) = self.page(route).await?;
            let page: ListPage<'_> = reply.json()?;
            if let Some(found) = page.secrets()?.iter().find(|found| is(named, found)) {
                self.known.learn_id(named, &found.id);
                return Ok(found.id.clone());
            }
            offset = page.next(from)?;
        }
        let place = Place::Named(named.clone());
        if proof || self.sees_into(&group).await? {
            return Err(missing(&place));
        }
        Err(ManagerError::new(
            Fault::NotFoundOrDenied,
            format!(
                "{place} is not among what the hub sees there, and it sees nothing in that group: \
                 is it absent, or has the hub no role for the group?"
            ),
        ))
    }

    async fn sees_into(&self, group: &str) -> Result<bool, ManagerError> {
        let route = at("/api/v2/secrets", &[])
            .with("groups", group)
            .with("limit", 1);
        let (reply, _) = self.page(route).await?;
        let page: ListPage<'_> = reply.json()?;
        Ok(page.total_count > 0)
    }
}

impl Place {
    /// Whether that is what it means, as far as the metadata tells.
    pub(super) fn may_be(&self, metadata: &Metadata) -> bool {
        match self {
            Self::Id(id) => *id == metadata.id,
            Self::Named(named) => is(named, metadata),
        }
    }
}

/// Whether that is what the name means, as far as the metadata tells.
fn is(named: &Named, metadata: &Metadata) -> bool {
    metadata.name == named.name && metadata.secret_type == named.kind
}

fn missing(place: &Place) -> ManagerError {
    ManagerError::new(Fault::Missing, format!("{place} is not there"))
}

/// A list that is not there says nothing about what is on it.
fn no_list(error: ManagerError) -> ManagerError {
    match error.fault {
        Fault::Missing => ManagerError {
            fault: Fault::Malformed,
            ..error
        },
        _ => error,
    }
}

/// Its id is its name.
pub(super) const DEFAULT: &str = "default";
/// Most that the service gives at once.
pub(super) const PAGE: u64 = 1000;
const GROUPS_FOR: Duration = Duration::from_secs(300);
const MOST_GROUPS: usize = 1000;
