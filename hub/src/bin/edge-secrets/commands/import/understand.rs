//! From a file's text to the documents in it, or why there are none. No file is opened here.

use std::path::PathBuf;

use edge_secrets_hub::policy::{
    DeploymentPolicy, DocumentError, Pattern, ServiceDefinition, check_node_policy, read_document,
};
use edge_secrets_protocol::limits::MAX_ADMIN_REQUEST;
use edge_secrets_protocol::{OrgId, PatternName, PolicyName};
use serde::Serialize;
use serde_json::Value;

use super::differences::{Difference, differences};
use super::names;
use super::recognise::{Kind, Recognised, recognise};
use super::substitute::{Lookup, Prepared};
use super::variables::{CREDENTIALS, Config, Values, Variables};

/// A file as it was found.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// As people are told.
    pub(super) file: PathBuf,
    /// The directory that was named, or the file's own.
    pub(super) root: PathBuf,
    /// Named itself, instead of found in a directory.
    pub(super) is_named: bool,
    pub(super) text: String,
}

/// How files are read.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) org: &'a OrgId,
    pub(super) variables: &'a Variables,
    /// Variables without a value become nothing, as `hzn` has it.
    pub(super) allow_undefined: bool,
    /// Names that were given, by file as people named it.
    pub(super) names: &'a Values,
}

/// What a file turned out to be.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Documents for the hub.
    Understood(Vec<Understood>),
    /// The properties and constraints of a service.
    ServicePolicy(ServicePolicy),
    /// Nothing for the hub.
    Left(Left),
    /// What should be one of these documents and is none.
    Refused(Vec<Refusal>),
}

/// A document for the hub.
#[derive(Debug, Clone)]
pub(super) struct Understood {
    pub(super) origin: Origin,
    pub(super) document: Document,
    pub(super) differs: Vec<Difference>,
}

/// The document.
#[derive(Debug, Clone)]
pub(super) enum Document {
    Service(ServiceDefinition),
    Policy(PolicyName, DeploymentPolicy),
    Pattern(PatternName, Pattern),
}

/// Where a document stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) file: PathBuf,
    /// Its key, in a listing of the Exchange.
    pub(super) key: Option<String>,
}

/// Properties and constraints that the Exchange keeps beside a service definition.
#[derive(Debug, Clone)]
pub(super) struct ServicePolicy {
    pub(super) file: PathBuf,
    /// Good for a service whose containers are not privileged.
    pub(super) json: String,
}

/// What is not for the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Left {
    pub(super) file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<Kind>,
    /// Why, and what becomes of it.
    pub(super) reason: String,
}

/// Why a file is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Refusal {
    pub(super) file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) column: Option<usize>,
    pub(super) reason: String,
}

impl Source {
    fn shown(&self) -> String {
        self.file.display().to_string()
    }

    fn name(&self) -> String {
        let name = self.file.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn is_json(&self) -> bool {
        self.file
            .extension()
            .is_some_and(|extension| extension == "json")
    }

    fn left(&self, kind: Option<Kind>, reason: impl Into<String>) -> Outcome {
        Outcome::Left(Left {
            file: self.shown(),
            kind,
            reason: reason.into(),
        })
    }

    fn refusal(&self, place: Option<(usize, usize)>, reason: impl Into<String>) -> Refusal {
        let (line, column) = place.unzip();
        Refusal {
            file: self.shown(),
            line,
            column,
            reason: reason.into(),
        }
    }

    fn refused(&self, reason: impl Into<String>) -> Outcome {
        Outcome::Refused(vec![self.refusal(None, reason)])
    }

    /// A fault of a document in the prepared text, at its place in the file.
    fn fault(&self, prepared: &Prepared, error: &DocumentError) -> Refusal {
        let place = error
            .line
            .map(|line| prepared.place(line, error.column.unwrap_or(1)));
        let at = if error.path.is_empty() { "" } else { ": " };
        self.refusal(place, format!("{}{at}{}", error.path, error.reason))
    }
}

impl Reading<'_> {
    /// Reads one file. `config` is the `hzn.json` of its project.
    pub(super) fn understand(&self, source: &Source, config: Option<&Config>) -> Outcome {
        let lookup = |name: &str| self.variables.value(name, config);
        let lookup: Option<Lookup<'_>> = match self.variables.stay() {
            true => None,
            false => Some(&lookup),
        };
        let prepared = Prepared::new(&source.text, source.is_json(), lookup, MAX_ADMIN_REQUEST);
        let Ok(prepared) = prepared else {
            return source.refused(format!(
                "is larger than {MAX_ADMIN_REQUEST} bytes with its variables replaced"
            ));
        };
        let root = match read(&prepared.text) {
            Ok(root) => root,
            Err(error) => {
                let is_one = source.is_named || Kind::by_name(&source.name()).is_some();
                let undefined = self.undefined(source, &prepared);
                let refusal = source.fault(&prepared, &error);
                return match (is_one, undefined.is_empty()) {
                    (true, false) => Outcome::Refused(undefined),
                    (true, true) => Outcome::Refused(vec![refusal]),
                    (false, _) => source.left(None, not_read(&refusal)),
                };
            }
        };
        let found = recognise(&source.name(), &root);
        let counts = !matches!(found, Recognised::Nothing | Recognised::One(Kind::Config));
        let undefined = self.undefined(source, &prepared);
        if counts && !undefined.is_empty() {
            return Outcome::Refused(undefined);
        }
        match found {
            Recognised::One(kind) => self.one(kind, source, &prepared, &root),
            Recognised::Listed(kind) => self.listed(kind, source, &prepared, &root),
            Recognised::Unclear => source.left(
                None,
                "has properties and constraints alone: a node's policy or a service's. Call it \
                 node.policy.json or service.policy.json",
            ),
            Recognised::Nothing if source.is_named => {
                source.refused("is no document that Open Horizon has")
            }
            Recognised::Nothing => source.left(None, "is no document that Open Horizon has"),
        }
    }

    fn undefined(&self, source: &Source, prepared: &Prepared) -> Vec<Refusal> {
        if self.allow_undefined {
            return Vec::new();
        }
        let refusal = |one: &super::substitute::Undefined| {
            let reason = match one.name.as_str() {
                "" => "`${` is not closed, or has no name in it".to_owned(),
                name if CREDENTIALS.contains(&name) => {
                    format!("{name} is what somebody logs in with, and has no place in a document")
                }
                name => {
                    let shown: String = name.chars().take(SHOWN).collect();
                    format!(
                        "the variable `{}` has no value: give it with --var, in the environment or \
                         in hzn.json",
                        shown.escape_debug()
                    )
                }
            };
            source.refusal(Some((one.line, one.column)), reason)
        };
        prepared.undefined.iter().map(refusal).collect()
    }

    fn one(&self, kind: Kind, source: &Source, prepared: &Prepared, root: &Value) -> Outcome {
        let origin = Origin {
            file: source.file.clone(),
            key: None,
        };
        let document = match kind {
            Kind::Service => self.service(&prepared.text, self.org),
            Kind::Policy => match self.name(kind, source, root) {
                Ok(name) => policy(name, &prepared.text),
                Err(reason) => return source.refused(reason),
            },
            Kind::Pattern => match self.name(kind, source, root) {
                Ok(name) => self.pattern(&name, &prepared.text),
                Err(reason) => return source.refused(reason),
            },
            Kind::NodePolicy => return node_policy(source, prepared),
            Kind::ServicePolicy => return self.service_policy(source, prepared, root),
            other => return source.left(Some(other), reason_to_leave(other)),
        };
        match document {
            Ok(document) => Outcome::Understood(vec![Understood {
                origin,
                document,
                differs: differences(kind, root),
            }]),
            Err(error) => Outcome::Refused(vec![source.fault(prepared, &error)]),
        }
    }

    /// Documents that the Exchange listed, each below `ORG/NAME`.
    fn listed(&self, kind: Kind, source: &Source, prepared: &Prepared, root: &Value) -> Outcome {
        let entries = root.as_object().into_iter().flatten();
        let (mut understood, mut refused) = (Vec::new(), Vec::new());
        for (key, value) in entries {
            let place = place_of_key(prepared, key);
            let text = value.to_string();
            let document = match kind {
                Kind::Service => {
                    let org = key.split_once('/').and_then(|(org, _)| org.parse().ok());
                    self.service(&text, org.as_ref().unwrap_or(self.org))
                }
                Kind::Policy | Kind::Pattern => match names::of_key(key) {
                    Some(name) if kind == Kind::Policy => policy(name, &text),
                    Some(name) => self.pattern(&name, &text),
                    None => {
                        let reason = format!("no {} can be called {key:?}", kind.as_str());
                        refused.push(source.refusal(place, reason));
                        continue;
                    }
                },
                other => return source.left(Some(other), reason_to_leave(other)),
            };
            match document {
                Ok(document) => understood.push(Understood {
                    origin: Origin {
                        file: source.file.clone(),
                        key: Some(key.clone()),
                    },
                    document,
                    differs: differences(kind, value),
                }),
                Err(error) => {
                    let inside = DocumentError {
                        line: None,
                        column: None,
                        ..error
                    };
                    let fault = source.fault(prepared, &inside);
                    refused.push(source.refusal(place, format!("[{key:?}] {}", fault.reason)));
                }
            }
        }
        match refused.is_empty() {
            true => Outcome::Understood(understood),
            false => Outcome::Refused(refused),
        }
    }

    fn service(&self, text: &str, org: &OrgId) -> Result<Document, DocumentError> {
        let definition = ServiceDefinition::parse_for(text, org)?;
        if let Some(slip) = definition.slip() {
            return Err(slip.clone());
        }
        self.expect_own(&definition.id().org)?;
        Ok(Document::Service(definition))
    }

    /// `name` is made of what decides, which has the same characters as a policy's.
    fn pattern(&self, name: &PolicyName, text: &str) -> Result<Document, DocumentError> {
        let pattern = Pattern::parse(text)?;
        if let Some(slip) = pattern.slip() {
            return Err(slip.clone());
        }
        if let Some(own) = pattern.org() {
            self.expect_own(own)?;
        }
        let parsed = name.as_str().parse::<PatternName>();
        let name = parsed.map_err(|error| DocumentError {
            path: "name".to_owned(),
            line: None,
            column: None,
            reason: error.to_string(),
        })?;
        Ok(Document::Pattern(name, pattern))
    }

    fn expect_own(&self, own: &OrgId) -> Result<(), DocumentError> {
        if own == self.org {
            return Ok(());
        }
        Err(DocumentError {
            path: "org".to_owned(),
            line: None,
            column: None,
            reason: format!(
                "it is of {own}, and can be published by a user of {own} alone; where that is {} by \
                 another name, give it with --var HZN_ORG_ID={}",
                self.org, self.org
            ),
        })
    }

    /// Read for a service that says nothing else, so that a fault has its place in this file.
    fn service_policy(&self, source: &Source, prepared: &Prepared, root: &Value) -> Outcome {
        let any = format!(
            r#"{{"org": "{}", "url": "any", "version": "1.0.0", "arch": "*", "deployment": {{}}}}"#,
            self.org
        );
        let read = ServiceDefinition::parse(&any);
        let read = read.and_then(|any| any.with_policy(Some(&prepared.text)));
        match read {
            Ok(_) => Outcome::ServicePolicy(ServicePolicy {
                file: source.file.clone(),
                json: root.to_string(),
            }),
            Err(error) => Outcome::Refused(vec![source.fault(prepared, &error)]),
        }
    }

    fn name(&self, kind: Kind, source: &Source, root: &Value) -> Result<PolicyName, String> {
        if let Some(name) = self.names.get(&source.shown()) {
            return name.parse().map_err(|error| format!("--name: {error}"));
        }
        let own = root
            .get("name")
            .and_then(Value::as_str)
            .filter(|_| kind == Kind::Pattern);
        own.and_then(names::named)
            .or_else(|| names::of_file(kind, &source.file, &source.root))
            .ok_or_else(|| {
                let file = source.shown();
                format!("no name can be made of the file's: give one with --name {file}=NAME")
            })
    }
}

fn read(text: &str) -> Result<Value, DocumentError> {
    // User input may be a list.
    if text.trim_start().starts_with('[')
        && let Ok(list) = serde_json::from_str(text)
    {
        return Ok(list);
    }
    read_document(text)
}

fn not_read(refusal: &Refusal) -> String {
    let place = match (refusal.line, refusal.column) {
        (Some(line), Some(column)) => format!(" (line {line}, column {column})"),
        _ => String::new(),
    };
    format!("cannot be read: {}{place}", refusal.reason)
}

/// Where a listing has this key: the first place that looks like it.
fn place_of_key(prepared: &Prepared, key: &str) -> Option<(usize, usize)> {
    let at = prepared.text.find(&Value::from(key).to_string())?;
    let before = prepared.text.get(..at)?;
    let line = before.matches('\n').count() + 1;
    let column = at - before.rfind('\n').map_or(0, |end| end + 1) + 1;
    Some(prepared.place(line, column))
}

fn policy(name: PolicyName, text: &str) -> Result<Document, DocumentError> {
    let policy = DeploymentPolicy::parse(text)?;
    match policy.slip() {
        Some(slip) => Err(slip.clone()),
        None => Ok(Document::Policy(name, policy)),
    }
}

fn node_policy(source: &Source, prepared: &Prepared) -> Outcome {
    let ignored = match check_node_policy(&prepared.text) {
        Ok(ignored) => ignored,
        Err(error) => return Outcome::Refused(vec![source.fault(prepared, &error)]),
    };
    let ignored = match ignored.is_empty() {
        true => String::new(),
        false => format!(
            ". Without effect there, for the agent measures them: {}",
            ignored.join(", ")
        ),
    };
    source.left(
        Some(Kind::NodePolicy),
        format!(
            "belongs to the node: copy it to each that is to have it, and name it there in \
             /etc/edge-secrets/agent.yaml as `node: {{ policy_file: … }}`{ignored}"
        ),
    )
}

fn reason_to_leave(kind: Kind) -> &'static str {
    match kind {
        Kind::UserInput => "a service's configuration is not delivered here, its secrets are",
        Kind::Config => "is where variables come from",
        Kind::Object => "models and files are delivered by what delivers them now, not by this",
        Kind::ManagementPolicy => "the agent here is upgraded as the node's other packages are",
        Kind::HaGroup => "nodes are not upgraded here, so none waits for another",
        Kind::Service | Kind::Policy | Kind::Pattern | Kind::ServicePolicy | Kind::NodePolicy => "",
    }
}

const SHOWN: usize = 60;

#[cfg(test)]
mod tests;
