//! Answers behind a token that gives them once.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{Answer, Outcome, refuse, unsupported};
use super::{Call, Vault, Verb, after, random, seconds};

pub(crate) struct Wrapped {
    body: Value,
    creation_path: String,
    created: Timestamp,
    ttl: u64,
}

impl Vault {
    pub(super) fn wrap(&mut self, call: &Call<'_>, ttl: &str, answer: Answer) -> Outcome {
        let Some(ttl) = seconds(&Value::from(ttl)) else {
            return refuse(400, &["error parsing wrap ttl"]);
        };
        let (token, accessor) = (format!("hvs.{}", random(24)), random(12));
        let wrapped = Wrapped {
            body: answer.body.unwrap_or(Value::Null),
            creation_path: call.local().to_owned(),
            created: call.now,
            ttl,
        };
        self.wrapped.insert(token.clone(), wrapped);
        let mut answer = Answer::data(Value::Null);
        if let Some(body) = &mut answer.body {
            body["request_id"] = "".into();
            body["wrap_info"] = json!({
                "token": token,
                "accessor": accessor,
                "ttl": ttl,
                "creation_time": call.now.to_string(),
                "creation_path": call.local(),
            });
        }
        Ok(answer)
    }

    pub(super) fn wrapping(&mut self, call: &Call<'_>, rest: &[&str]) -> Outcome {
        let now = call.now;
        self.wrapped.retain(|_, w| after(w.created, w.ttl) > now);
        let given = match call.text("token") {
            "" => call.token.clone().unwrap_or_default(),
            token => token.to_owned(),
        };
        let unknown = || refuse(400, &["wrapping token is not valid or does not exist"]);
        match (call.verb, rest) {
            (Verb::Write | Verb::Read, ["lookup"]) => match self.wrapped.get(&given) {
                Some(wrapped) => Ok(Answer::data(json!({
                    "creation_path": wrapped.creation_path,
                    "creation_time": wrapped.created.to_string(),
                    "creation_ttl": wrapped.ttl,
                }))),
                None => unknown(),
            },
            (Verb::Write, ["unwrap"]) => match self.wrapped.remove(&given) {
                Some(wrapped) => {
                    self.counted.unwrapped += 1;
                    Ok(Answer::of(200, wrapped.body))
                }
                None => unknown(),
            },
            (Verb::Write, ["wrap"]) => Ok(Answer::data(call.body.clone())),
            _ => unsupported(),
        }
    }
}
