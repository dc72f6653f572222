//! A secret's values, read without checking it out.

use edge_secrets_protocol::limits::MAX_FIELDS;
use edge_secrets_protocol::{FieldName, Secret};
use serde_json::json;
use zeroize::Zeroizing;

use super::api::{Api, Call, succeeded};
use super::errors::is_no_such_call;
use super::model::{Item, Values};
use crate::http::Reply;
use crate::payload::{SecretText, from_fields};
use crate::route::{Route, at};
use crate::{Fault, ManagerError};

/// All fields of the secret by their slugs. With a comment, that is given as the reason.
pub(super) async fn read(
    api: &Api,
    id: u64,
    comment: Option<&str>,
) -> Result<Secret, ManagerError> {
    let reply = match comment {
        Some(comment) => api.send(&with_reason(id, None, comment)).await?,
        None => plain(api, id).await?,
    };
    let values: Values = succeeded(reply, READING)?.json()?;
    check(&values, id)?;
    let mut fields: Vec<(&str, Zeroizing<Vec<u8>>)> = Vec::with_capacity(values.items.len());
    for item in &values.items {
        if let Some(value) = value_of(api, id, item, comment).await? {
            fields.push((&item.slug, value));
        }
    }
    let fields: Vec<(&str, &[u8])> = fields
        .iter()
        .map(|(slug, value)| (*slug, value.as_slice()))
        .collect();
    from_fields(&fields)
}

/// Before a slug goes into an address.
fn check(values: &Values, id: u64) -> Result<(), ManagerError> {
    if values.id != id {
        let why = "its answer is of another secret than the one that was asked for";
        return Err(ManagerError::new(Fault::Malformed, why));
    }
    if values.items.len() > MAX_FIELDS {
        let why = format!("the secret has more than {MAX_FIELDS} fields");
        return Err(ManagerError::new(Fault::Unsupported, why));
    }
    for item in &values.items {
        let name: Result<FieldName, _> = item.slug.parse();
        name.map_err(|error| {
            ManagerError::new(Fault::Unsupported, format!("the secret's {error}"))
        })?;
    }
    Ok(())
}

/// Old servers know one route alone, and new ones document the other.
async fn plain(api: &Api, id: u64) -> Result<Reply, ManagerError> {
    let first = at("/api/v1/secrets/{id}", &[&id.to_string()]);
    let reply = api.send(&Call::get(without_checkout(first))).await?;
    if !is_no_such_call(&reply) {
        return Ok(reply);
    }
    let second = at("/api/v2/secrets/{id}", &[&id.to_string()]);
    api.send(&Call::get(without_checkout(second))).await
}

/// The field's value; none where it is of a file that there is not.
async fn value_of(
    api: &Api,
    id: u64,
    item: &Item,
    comment: Option<&str>,
) -> Result<Option<Zeroizing<Vec<u8>>>, ManagerError> {
    let text = item.item_value.as_ref().map_or("", SecretText::expose);
    if item.is_file == Some(true) {
        if item.file_attachment_id.is_none_or(|file| file <= 0) {
            return Ok(None);
        }
        return field(api, id, &item.slug, comment, true).await.map(Some);
    }
    // Newer servers leave passwords out of the whole secret.
    if item.is_password == Some(true) && text.is_empty() {
        return field(api, id, &item.slug, comment, false).await.map(Some);
    }
    Ok(Some(Zeroizing::new(text.as_bytes().to_vec())))
}

async fn field(
    api: &Api,
    id: u64,
    slug: &str,
    comment: Option<&str>,
    is_file: bool,
) -> Result<Zeroizing<Vec<u8>>, ManagerError> {
    let call = match comment {
        Some(comment) => with_reason(id, Some(slug), comment),
        None => {
            let route = at(
                "/api/v1/secrets/{id}/fields/{slug}",
                &[&id.to_string(), slug],
            );
            Call::get(without_checkout(route))
        }
    };
    let call = if is_file { call.for_bytes() } else { call };
    let reply = succeeded(api.send(&call).await?, READING)?;
    if is_file && is_bytes(&reply) {
        return Ok(Zeroizing::new(reply.expose().to_vec()));
    }
    let text: Option<SecretText> = reply.json()?;
    let text = text.as_ref().map_or("", SecretText::expose);
    Ok(Zeroizing::new(text.as_bytes().to_vec()))
}

fn with_reason(id: u64, slug: Option<&str>, comment: &str) -> Call {
    let id = id.to_string();
    let route = match slug {
        Some(slug) => at(
            "/api/v1/secrets/{id}/restricted/fields/{slug}",
            &[&id, slug],
        ),
        None => at("/api/v1/secrets/{id}/restricted", &[&id]),
    };
    // Nothing more: an empty member is a bad request there.
    let body = json!({"comment": comment, "noAutoCheckout": true});
    Call::post(without_checkout(route), body)
}

/// A plain read takes the secret for the hub's account, when it can be taken.
fn without_checkout(route: Route) -> Route {
    route.with("noAutoCheckout", true)
}

/// Files come as they are; pages for people, instead of a file, are none.
fn is_bytes(reply: &Reply) -> bool {
    reply
        .header(&http::header::CONTENT_TYPE)
        .is_some_and(|media| media.starts_with("application/octet-stream"))
}

const READING: &str = "a read of the secret";
