//! The calls of Secrets Manager's API.

mod listing;
mod writing;

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::answers::{Refusal, refuse};
use super::{Ibm, Role};
use crate::{Request, Response};

impl Ibm {
    pub(super) fn call(
        &mut self,
        request: &Request,
        path: &[&str],
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        let answer = match (request.method.as_str(), path) {
            ("GET", ["secrets"]) => self.list(request)?,
            ("POST", ["secrets"]) => {
                self.need(Role::Writer)?;
                return Ok(Response::json(201, &self.create(&request.json(), now)?));
            }
            ("GET", ["secret_groups"]) => self.groups_shown(),
            ("POST", ["secret_groups"]) => {
                self.need(Role::Manager)?;
                let name = text(&request.json(), "name")?;
                let id = self.add_group(&name);
                return Ok(Response::json(201, &json!({ "id": id, "name": name })));
            }
            (
                _,
                [
                    "secret_groups",
                    group,
                    "secret_types",
                    kind,
                    "secrets",
                    name,
                ],
            ) => {
                let id = self.id_of(group, kind, name)?;
                return self.of_secret(request, &id, &[], now);
            }
            (_, ["secrets", id, rest @ ..]) => return self.of_secret(request, id, rest, now),
            (_, ["configurations", rest @ ..]) => return self.configure(request, rest),
            _ => return Err(refuse(404, "is not a valid access endpoint")),
        };
        Ok(Response::json(200, &answer))
    }

    fn of_secret(
        &mut self,
        request: &Request,
        id: &str,
        rest: &[&str],
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        self.visible(id)?;
        let method = &request.method;
        let answer = match (method.as_str(), rest) {
            ("GET", []) => self.value(id, now)?,
            ("GET", ["metadata"]) => self.secret(id).metadata(),
            ("PATCH", ["metadata"]) => {
                self.need(Role::Writer)?;
                self.edit(id, &request.json(), now)
            }
            ("DELETE", []) => {
                self.need(Role::Writer)?;
                self.unlocked(id)?;
                self.remove(id);
                return Ok(Response::empty(204));
            }
            ("GET", ["versions"]) => self.versions(id),
            ("POST", ["versions"]) => {
                self.need(Role::Writer)?;
                let version = self.add_version(id, &request.json(), now)?;
                return Ok(Response::json(201, &version));
            }
            ("GET", ["versions", version]) => {
                self.need(Role::SecretsReader)?;
                let at = self.position(id, version)?;
                self.given += 1;
                self.secret(id).version_with_value(at)
            }
            ("GET", ["versions", version, "metadata"]) => {
                let at = self.position(id, version)?;
                self.secret(id).version_metadata(at)
            }
            ("DELETE", ["versions", version, "secret_data"]) => {
                self.need(Role::Writer)?;
                self.unlocked(id)?;
                self.end_version(id, version, now)?;
                return Ok(Response::empty(204));
            }
            ("GET", ["locks"]) => self.locks(id),
            ("POST", ["locks_bulk"]) => {
                self.need(Role::Writer)?;
                self.lock(id, &request.json());
                return Ok(Response::json(201, &self.locks(id)));
            }
            (_, ["locks_bulk"]) if method == Method::DELETE => {
                self.need(Role::Writer)?;
                self.unlock(id, request.query("name"));
                self.locks(id)
            }
            _ => return Err(refuse(404, "is not a valid access endpoint")),
        };
        Ok(Response::json(200, &answer))
    }

    /// The read that for some secrets is a write.
    fn value(&mut self, id: &str, now: Timestamp) -> Result<Value, Refusal> {
        self.need(Role::SecretsReader)?;
        let secret = self.secret(id).clone();
        if secret.is_iam() {
            let alive = secret.current().data.is_some()
                && secret.current().end.is_some_and(|end| now < end);
            if !secret.reuse {
                self.unlocked(id)?;
                self.end_keys(id);
            }
            if !secret.reuse || !alive {
                self.make_version(id, now);
            }
        }
        self.given += 1;
        Ok(self.secret(id).with_value())
    }

    /// Says what is there but not for this account as it says what is not there at all.
    fn visible(&self, id: &str) -> Result<(), Refusal> {
        let mut secrets = self.secrets.iter();
        let Some(secret) = secrets.find(|secret| secret.id == id) else {
            return Err(refuse(404, "secret not found"));
        };
        if self.hidden.contains(&secret.group) {
            return Err(refuse(403, "the account has no access to the group"));
        }
        Ok(())
    }

    fn unlocked(&mut self, id: &str) -> Result<(), Refusal> {
        match self.secret(id).locks.is_empty() {
            true => Ok(()),
            false => Err(refuse(412, "the secret is locked")),
        }
    }

    fn position(&mut self, id: &str, version: &str) -> Result<usize, Refusal> {
        let position = self.secret(id).position(version);
        position.ok_or_else(|| refuse(404, "version not found"))
    }

    fn versions(&mut self, id: &str) -> Value {
        let secret = self.secret(id);
        let shown: Vec<_> = (0..secret.versions.len())
            .map(|at| secret.version_metadata(at))
            .collect();
        json!({ "total_count": shown.len(), "versions": shown })
    }

    fn locks(&mut self, id: &str) -> Value {
        let names = self.secret(id).locks.clone();
        let locks: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
        json!({ "total_count": locks.len(), "locks": locks })
    }

    fn lock(&mut self, id: &str, body: &Value) {
        for lock in body["locks"].as_array().into_iter().flatten() {
            let name = lock["name"].as_str().unwrap_or_default();
            self.secret(id).locks.push(name.into());
        }
    }

    fn unlock(&mut self, id: &str, names: Option<&str>) {
        let gone: Vec<_> = names.unwrap_or_default().split(',').collect();
        let locks = &mut self.secret(id).locks;
        locks.retain(|name| names.is_some() && !gone.contains(&name.as_str()));
    }
}

pub(super) fn text(body: &Value, name: &str) -> Result<String, Refusal> {
    let text = body[name].as_str().filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| refuse(400, format!("{name} is missing")))?;
    Ok(text.to_owned())
}
