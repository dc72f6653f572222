//! `secrets` as a template sees it: names to secrets, secrets to fields.

use std::fmt;
use std::sync::{Arc, OnceLock};

use edge_secrets_protocol::{Fields, SecretName};
use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};

/// The first thing that was made text and must not be. The engine's way to text knows no errors, so
/// it is remembered beside it.
#[derive(Debug, Clone, Default)]
pub(super) struct Misuse(Arc<OnceLock<String>>);

impl Misuse {
    pub(super) fn first(&self) -> Option<String> {
        self.0.get().cloned()
    }

    fn note(&self, reason: impl FnOnce() -> String) {
        self.0.get_or_init(reason);
    }
}

/// The template's names: `secrets` alone.
pub(super) fn context<'a>(
    secrets: impl Iterator<Item = &'a (&'a SecretName, Fields<'a>)>,
    misuse: &Misuse,
) -> Value {
    let secrets = secrets.map(|(name, fields)| {
        let fields = fields.expose().map(|(field, content)| {
            let path = format!("{name}.{field}");
            (field.into(), value(path, content, misuse))
        });
        let secret = Names {
            what: format!("secret `{name}` is used as text; name one of its fields"),
            entries: fields.collect(),
            misuse: misuse.clone(),
        };
        (name.as_str().into(), Value::from_object(secret))
    });
    let secrets = Names {
        what: "`secrets` is used as text; write secrets.NAME.FIELD".to_owned(),
        entries: secrets.collect(),
        misuse: misuse.clone(),
    };
    Value::from_pairs([("secrets", Value::from_object(secrets))])
}

fn value(path: String, content: &[u8], misuse: &Misuse) -> Value {
    match std::str::from_utf8(content) {
        // Never the engine's short text, which would stand on the stack.
        Ok(text) => Value::from(Arc::<str>::from(text)),
        Err(_) => Value::from_object(Binary {
            path,
            content: content.into(),
            misuse: misuse.clone(),
        }),
    }
}

/// Values by name, in order. A secret's fields, or the secrets themselves.
struct Names {
    /// What is wrong when it is used as text.
    what: String,
    entries: Vec<(Box<str>, Value)>,
    misuse: Misuse,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.entries.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Object for Names {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let found = self.entries.iter().find(|(name, _)| **name == *key);
        found.map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let names = self.entries.iter().map(|(name, _)| Value::from(&**name));
        Enumerator::Values(names.collect())
    }

    fn render(self: &Arc<Self>, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.misuse.note(|| self.what.clone());
        Ok(())
    }
}

/// A field that is not UTF-8 text.
pub(super) struct Binary {
    pub(super) path: String,
    pub(super) content: Box<[u8]>,
    misuse: Misuse,
}

impl Binary {
    pub(super) fn no_text(&self) -> String {
        let path = &self.path;
        format!("`secrets.{path}` is not UTF-8 text; write it with `b64encode`")
    }
}

impl fmt::Debug for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Binary({:?}, ..)", self.path)
    }
}

impl Object for Binary {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.misuse.note(|| self.no_text());
        Ok(())
    }
}
