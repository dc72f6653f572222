//! Service policies: the Exchange keeps properties and constraints beside a service definition. Here they
//! stand in it, as its `servicePolicy`; left out, a service and its secrets would reach nodes that its
//! constraints exclude.

use std::collections::BTreeSet;

use edge_secrets_protocol::ServiceId;

use super::recognise::Kind;
use super::understand::{Document, Left, Refusal, ServicePolicy, Understood};

/// Puts each service policy into the definitions of its service, the one that lies in the same directory.
/// What became of each is what is left to say.
pub(super) fn merge(
    policies: Vec<ServicePolicy>,
    understood: &mut [Understood],
) -> (Vec<Left>, Vec<Refusal>) {
    let (mut left, mut refused) = (Vec::new(), Vec::new());
    let mut known: BTreeSet<ServiceId> = BTreeSet::new();
    for policy in policies {
        let file = policy.file.display().to_string();
        let refusal = |reason: String| Refusal {
            file: file.clone(),
            line: None,
            column: None,
            reason,
        };
        let Some(service) = service_of(&policy, understood) else {
            refused.push(refusal(
                "it is not plain whose properties and constraints these are: put it beside the \
                 definition of its one service, or set it by `edge-secrets service policy set`"
                    .to_owned(),
            ));
            continue;
        };
        if !known.insert(service.clone()) {
            let reason = format!("{service} has a policy of its own already, in another file here");
            refused.push(refusal(reason));
            continue;
        }
        let mut merged = Vec::new();
        for one in understood.iter_mut().filter(|one| is_beside(one, &policy)) {
            let Document::Service(definition) = &one.document else {
                continue;
            };
            match definition.with_policy(Some(&policy.json)) {
                Ok(with) => {
                    one.document = Document::Service(with);
                    merged.push(one.identity().to_string());
                }
                Err(error) => refused.push(refusal(format!(
                    "with {}: {}{}{}",
                    one.identity(),
                    error.path,
                    if error.path.is_empty() { "" } else { ": " },
                    error.reason
                ))),
            }
        }
        if !merged.is_empty() {
            left.push(Left {
                file,
                kind: Some(Kind::ServicePolicy),
                reason: format!("is published inside its definition: {}", merged.join(", ")),
            });
        }
    }
    (left, refused)
}

fn is_beside(one: &Understood, policy: &ServicePolicy) -> bool {
    one.origin.file.parent() == policy.file.parent()
}

/// The one service whose definitions lie beside it.
fn service_of(policy: &ServicePolicy, understood: &[Understood]) -> Option<ServiceId> {
    let beside = understood.iter().filter_map(|one| match &one.document {
        Document::Service(definition) if is_beside(one, policy) => Some(definition.id()),
        _ => None,
    });
    let services: BTreeSet<&ServiceId> = beside.collect();
    match services.len() {
        1 => services.first().map(|service| (*service).clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use edge_secrets_hub::policy::ServiceDefinition;
    use serde_json::{Value, json};

    use super::super::understand::Origin;
    use super::*;

    fn service(file: &str, url: &str, deployment: &Value) -> Understood {
        let text = json!({"org": "myorg", "url": url, "version": "1.0.0", "arch": "amd64",
            "deployment": deployment});
        Understood {
            origin: Origin {
                file: file.into(),
                key: None,
            },
            document: Document::Service(ServiceDefinition::parse(&text.to_string()).unwrap()),
            differs: Vec::new(),
        }
    }

    fn plain(file: &str, url: &str) -> Understood {
        service(file, url, &json!({}))
    }

    fn added(file: &str, constraint: &str) -> ServicePolicy {
        let policy = json!({
            "properties": [{"name": "openhorizon.allowPrivileged", "value": false}],
            "constraints": [constraint],
        });
        ServicePolicy {
            file: file.into(),
            json: policy.to_string(),
        }
    }

    fn own_policy(understood: &Understood) -> Value {
        let document: Value = serde_json::from_str(&understood.to_json()).unwrap();
        document["servicePolicy"].clone()
    }

    #[test]
    fn a_services_rules_go_into_its_definitions() {
        let mut all = [
            plain("a/service.definition.json", "uplink"),
            plain("b/service.definition.json", "other"),
        ];
        let policy = added("a/service.policy.json", "openhorizon.memory >= 512");
        let (left, refused) = merge(vec![policy], &mut all);
        assert_eq!(refused, []);
        assert_eq!(
            left[0].reason,
            "is published inside its definition: uplink 1.0.0 amd64"
        );
        assert_eq!(
            own_policy(&all[0])["constraints"],
            json!(["openhorizon.memory >= 512"])
        );
        assert_eq!(own_policy(&all[1]), Value::Null);
    }

    #[test]
    fn rules_that_are_of_no_one_service_are_refused_and_not_lost() {
        let mut two = [plain("a/one.json", "one"), plain("a/two.json", "two")];
        let beside = || added("a/service.policy.json", "x == 1");
        let (_, refused) = merge(vec![beside()], &mut two);
        assert_eq!(refused.len(), 1);
        let (_, refused) = merge(vec![added("b/service.policy.json", "x == 1")], &mut two);
        assert_eq!(refused.len(), 1);
        let mut one = [plain("a/one.json", "one")];
        let again = added("a/my.service.policy.json", "x == 2");
        let (left, refused) = merge(vec![beside(), again], &mut one);
        assert_eq!((left.len(), refused.len()), (1, 1), "{refused:?}");
    }

    #[test]
    fn rules_that_contradict_their_definition_are_refused() {
        let deployment = json!({"services": {"main": {"image": "x", "privileged": true}}});
        let mut all = [service("a/one.json", "one", &deployment)];
        let policy = added("a/service.policy.json", "x == 1");
        let (left, refused) = merge(vec![policy], &mut all);
        assert_eq!(left, []);
        let said = refused[0].to_string();
        assert!(said.contains("allowPrivileged is false"), "{said}");
    }
}
