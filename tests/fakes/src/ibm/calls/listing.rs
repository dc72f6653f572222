//! Lists: filters, order, pages.

use serde_json::{Value, json};

use super::super::answers::{Refusal, refuse};
use super::super::{Ibm, Secret};
use crate::Request;

impl Ibm {
    pub(super) fn list(&self, request: &Request) -> Result<Value, Refusal> {
        let number = |name: &str, default: usize| match request.query(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| refuse(400, format!("bad {name}"))),
        };
        let (offset, limit) = (number("offset", 0)?, number("limit", 200)?);
        if !(1..=1000).contains(&limit) {
            return Err(refuse(400, "limit is not 1 to 1000"));
        }
        let mut found: Vec<&Secret> = self
            .secrets
            .iter()
            .filter(|secret| !self.hidden.contains(&secret.group) && wanted(secret, request))
            .collect();
        let sort = request.query("sort").unwrap_or("created_at");
        match sort.trim_start_matches('-') {
            "id" => found.sort_by(|a, b| a.id.cmp(&b.id)),
            "name" => found.sort_by(|a, b| a.name.cmp(&b.name)),
            "updated_at" => found.sort_by_key(|secret| secret.updated),
            "created_at" => found.sort_by_key(|secret| secret.created),
            _ => return Err(refuse(400, "bad sort")),
        }
        if sort.starts_with('-') {
            found.reverse();
        }
        let total = found.len();
        let page: Vec<_> = found.iter().skip(offset).take(limit).collect();
        let shown: Vec<_> = page.iter().map(|secret| secret.metadata()).collect();
        // Another host on purpose: only the number is for clients.
        let href = |offset: usize| {
            json!({ "href": format!(
                "https://elsewhere.invalid/api/v2/secrets?offset={offset}&limit={limit}"
            ) })
        };
        let mut answer = json!({
            "total_count": total, "limit": limit, "offset": offset,
            "first": href(0), "last": href(total.saturating_sub(1) / limit * limit),
            "secrets": shown,
        });
        if offset + limit < total {
            answer["next"] = href(offset + limit);
        }
        if offset > 0 {
            answer["previous"] = href(offset.saturating_sub(limit));
        }
        Ok(answer)
    }

    pub(super) fn groups_shown(&self) -> Value {
        let groups: Vec<_> = self
            .groups
            .iter()
            .filter(|group| !self.hidden.contains(&group.id))
            .map(|group| json!({ "id": group.id, "name": group.name, "description": "" }))
            .collect();
        json!({ "total_count": groups.len(), "secret_groups": groups })
    }

    /// The id behind the names: of the endpoint that gives the value by them.
    pub(super) fn id_of(&self, group: &str, kind: &str, name: &str) -> Result<String, Refusal> {
        let mut groups = self.groups.iter();
        let group = groups.find(|known| known.name == group).map(|g| &g.id);
        let mut secrets = self.secrets.iter();
        secrets
            .find(|s| Some(&s.group) == group && s.kind == kind && s.name == name)
            .map(|secret| secret.id.clone())
            .ok_or_else(|| refuse(404, "secret not found"))
    }
}

fn wanted(secret: &Secret, request: &Request) -> bool {
    let among = |name: &str, value: &str| match request.query(name) {
        None => true,
        Some(list) => list.split(',').any(|one| one == value),
    };
    let labels = request.query("match_all_labels").unwrap_or_default();
    let mut labels = labels.split(',').filter(|label| !label.is_empty());
    let search = request.query("search").unwrap_or_default();
    let texts = [&secret.id, &secret.name, &secret.description, &secret.kind];
    among("groups", &secret.group)
        && among("secret_types", &secret.kind)
        && labels.all(|label| secret.labels.iter().any(|own| own == label))
        && (texts.iter().any(|text| text.contains(search))
            || secret.labels.iter().any(|label| label.contains(search)))
}
