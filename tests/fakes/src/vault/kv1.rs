//! KV version 1: a value, and nothing else.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::answer::{Answer, InAnswer, Outcome, none, refuse, unsupported};
use super::{Call, Counted, Verb};

#[derive(Default)]
pub(crate) struct Store(BTreeMap<String, Value>);

impl Store {
    pub(crate) fn answer(&mut self, call: &Call<'_>, path: &str, counted: &mut Counted) -> Outcome {
        match call.verb {
            Verb::Read => match self.0.get(path) {
                Some(value) => {
                    counted.values += 1;
                    // What the original says of its leases here means nothing, and is sent all the same.
                    let lease = InAnswer {
                        id: String::new(),
                        seconds: 2_764_800,
                        renewable: false,
                        warnings: Value::Null,
                    };
                    Ok(Answer::leased(value.clone(), lease))
                }
                None => refuse(404, &[]),
            },
            Verb::Write => {
                if !call.body.is_object() {
                    return refuse(400, &["missing data fields"]);
                }
                self.0.insert(path.to_owned(), call.body.clone());
                none()
            }
            Verb::Delete => {
                self.0.remove(path);
                none()
            }
            Verb::List => list(self.0.keys(), path),
            Verb::Patch => unsupported(),
        }
    }
}

/// The names directly below a folder.
pub(super) fn list<'a>(paths: impl Iterator<Item = &'a String>, folder: &str) -> Outcome {
    let folder = match folder.trim_end_matches('/') {
        "" => String::new(),
        folder => format!("{folder}/"),
    };
    let below = paths.filter_map(|path| path.strip_prefix(&folder));
    let names = below.map(|rest| match rest.split_once('/') {
        Some((first, _)) => format!("{first}/"),
        None => rest.to_owned(),
    });
    let keys: std::collections::BTreeSet<String> = names.collect();
    match keys.is_empty() {
        true => refuse(404, &[]),
        false => Ok(Answer::data(json!({"keys": keys}))),
    }
}
