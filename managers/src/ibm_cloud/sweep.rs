//! Many descriptions from few lists: one sweep per group, and a call more only for what moved.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::IbmCloud;
use super::known::GroupIds;
use super::lookup::PAGE;
use super::place::{Named, Place};
use super::wire::{ListPage, Metadata};
use crate::route::at;
use crate::{Description, Fault, ManagerError, Target};

/// A group's secrets, by their ids and by their names.
#[derive(Default)]
struct Found {
    by_id: HashMap<String, Arc<Metadata>>,
    ids: HashMap<(&'static str, String), String>,
    now: Timestamp,
}

impl IbmCloud {
    pub(super) async fn sweep(
        &self,
        targets: &[Target<'_>],
    ) -> Vec<Result<Description, ManagerError>> {
        let places: Vec<_> = targets.iter().map(|t| Place::of(t.reference)).collect();
        let groups = match self.groups_of(&places).await {
            Ok(groups) => groups,
            Err(error) => return refuse_all(places, &error),
        };
        let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
        for group in places
            .iter()
            .flatten()
            .filter_map(|p| self.group_of(p, &groups))
        {
            *wanted.entry(group).or_default() += 1;
        }
        let mut swept = HashMap::new();
        for (group, count) in wanted {
            // One alone is cheaper by itself.
            if count > 1 {
                swept.insert(group.clone(), self.sweep_group(&group).await);
            }
        }
        let mut answers = Vec::with_capacity(places.len());
        // Trouble of the whole manager is not asked for again by every secret.
        let mut trouble: Option<ManagerError> = None;
        for place in places {
            let answer = match (place, &trouble) {
                (Err(error), _) => Err(error),
                (Ok(_), Some(trouble)) => Err(trouble.clone()),
                (Ok(place), None) => {
                    let group = self.group_of(&place, &groups);
                    let found = group.and_then(|group| swept.get(&group));
                    self.describe_swept(&place, found).await
                }
            };
            if let Err(error) = &answer
                && error.fault.is_of_the_manager()
            {
                trouble = Some(error.clone());
            }
            answers.push(answer);
        }
        answers
    }

    async fn describe_swept(
        &self,
        place: &Place,
        found: Option<&Result<Found, ManagerError>>,
    ) -> Result<Description, ManagerError> {
        let found = match found {
            None => return self.describe_place(place).await,
            Some(Err(error)) => return Err(error.clone()),
            Some(Ok(found)) => found,
        };
        // What a list leaves out may have slipped between its pages: that is asked for by itself.
        let Some(metadata) = found.of(place) else {
            return self.describe_place(place).await;
        };
        if let Place::Named(named) = place {
            self.known.learn_id(named, &metadata.id);
        }
        self.known.learn(metadata);
        self.describe_found(metadata, found.now).await
    }

    /// Groups are asked for only where a name needs one.
    async fn groups_of(
        &self,
        places: &[Result<Place, ManagerError>],
    ) -> Result<Arc<GroupIds>, ManagerError> {
        let mut named = places.iter().flatten();
        match named.any(|place| matches!(place, Place::Named(_))) {
            true => self.groups().await,
            false => Ok(Arc::default()),
        }
    }

    /// Where to look for it; none where that is not known.
    fn group_of(&self, place: &Place, groups: &GroupIds) -> Option<String> {
        match place {
            Place::Named(named) => groups.get(&named.group).cloned(),
            Place::Id(id) => {
                let seen = self.known.seen(id, std::time::Duration::MAX)?;
                Some(seen.secret_group_id.clone())
            }
        }
    }

    async fn sweep_group(&self, group: &str) -> Result<Found, ManagerError> {
        let mut found = Found::default();
        let (mut offset, mut limit) = (Some(0), PAGE);
        while let Some(from) = offset {
            // New ones come last, so that none before them moves to another page.
            let route = at("/api/v2/secrets", &[])
                .with("groups", group)
                .with("sort", "created_at")
                .with("limit", limit)
                .with("offset", from);
            let reply = match self.page(route).await {
                Ok((reply, now)) => {
                    found.now = now;
                    reply
                }
                Err(error) if error.fault == Fault::TooLarge && limit > SMALLEST => {
                    limit /= 10;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let page: ListPage<'_> = reply.json()?;
            for metadata in page.secrets()? {
                found.add(metadata);
            }
            offset = page.next(from)?;
        }
        Ok(found)
    }
}

impl Found {
    fn add(&mut self, metadata: Metadata) {
        let name = (metadata.secret_type.as_str(), metadata.name.clone());
        self.ids.insert(name, metadata.id.clone());
        self.by_id.insert(metadata.id.clone(), Arc::new(metadata));
    }

    fn of(&self, place: &Place) -> Option<&Arc<Metadata>> {
        let id = match place {
            Place::Id(id) => id,
            Place::Named(Named { kind, name, .. }) => {
                self.ids.get(&(kind.as_str(), name.clone()))?
            }
        };
        self.by_id.get(id)
    }
}

fn refuse_all(
    places: Vec<Result<Place, ManagerError>>,
    error: &ManagerError,
) -> Vec<Result<Description, ManagerError>> {
    let refuse =
        |place: Result<Place, ManagerError>| Err(place.err().unwrap_or_else(|| error.clone()));
    places.into_iter().map(refuse).collect()
}

const SMALLEST: u64 = 10;
