//! Files that are rendered from several secrets by a template of the node's administrator.
//!
//! The language is Jinja's, as MiniJinja brings it, without what reads or runs anything else: no
//! includes, no macros, no functions. A template reads `{{ secrets.NAME.FIELD }}`, or
//! `{{ secrets["tls-key"].pem }}` where a name is no identifier. It is strict: what is not there is an
//! error and never an empty text. Nothing is escaped by itself; the filters `sh`, `json`, `urlencode`
//! and `b64encode` do it where it is asked for. Lines that hold nothing but a block leave no trace.
//!
//! # Where values go
//!
//! The file is written into the caller's buffer as it is rendered. The engine needs values of its own:
//! the fields of the secrets that the template names, and what its filters and operators make of them,
//! stand on the heap for as long as it runs. The agent's allocator wipes whatever is freed. Single
//! characters and short parts of values can also pass over the stack.
//!
//! # Bounds
//!
//! The text, one tag's length, the steps taken, the depth of loops and the file's size are bounded.
//! Not promised: that a template which is made to eat memory, by joining a text to itself again and
//! again, is stopped before it does. Who writes profiles is the node's administrator.

mod context;
mod filters;
mod reads;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::error::Error as _;
use std::io;

use edge_secrets_protocol::{Fields, SecretName};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};

use self::context::{Misuse, context};
use self::filters::Refusal;
use self::reads::Reads;
use super::render::{RenderError, Room};

/// Why a text is no template. There is no value yet that it could show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct TemplateError {
    /// Where in the text, counted from 1, as far as it is known.
    pub(crate) line: Option<usize>,
    /// What is wrong, and what to do.
    pub(crate) reason: String,
}

/// Compiles `text`, finds what would fail whatever the values are (unknown filters and names), and
/// says which secrets it reads; none when that cannot be told before it runs (`secrets[x]`, a loop
/// over `secrets`), which means all.
///
/// # Errors
/// When `text` is no template, or larger than [`MAX_TEMPLATE`].
pub(crate) fn check(text: &str) -> Result<Option<BTreeSet<SecretName>>, TemplateError> {
    let reads = Reads::of(text)?;
    let env = environment(&Misuse::default()).map_err(|error| misspelt(&error))?;
    env.template_from_str(text)
        .map_err(|error| misspelt(&error))?;
    Ok(reads.secrets)
}

/// Renders the file `name` from `text` into the start of `out` and says how long it is. Never more
/// than [`MAX_RENDERED`], however large `out` is.
///
/// Of `secrets` only those that [`check`] told of are looked at; one that is not among them is an
/// error where the template reads it.
///
/// # Errors
/// [`RenderError::Template`] with the line, and [`RenderError::NoRoom`]. What stands in `out` is a part
/// of the file then.
pub(crate) fn render_template(
    text: &str,
    name: &SecretName,
    secrets: &[(&SecretName, Fields<'_>)],
    out: &mut [u8],
) -> Result<usize, RenderError> {
    let failed = |line, reason| RenderError::Template {
        name: name.clone(),
        line,
        reason,
    };
    let uncompiled = |error: TemplateError| failed(error.line, error.reason);
    let reads = Reads::of(text).map_err(uncompiled)?;
    let misuse = Misuse::default();
    let env = environment(&misuse).map_err(|error| uncompiled(misspelt(&error)))?;
    let template = env
        .template_from_str(text)
        .map_err(|error| uncompiled(misspelt(&error)))?;
    let read = secrets
        .iter()
        .filter(|(name, _)| reads.secrets.as_ref().is_none_or(|all| all.contains(*name)));
    let values = context(read, &misuse);
    let len = out.len().min(MAX_RENDERED);
    let (out, _) = out.split_at_mut(len);
    let mut sink = Sink(Room::new(out));
    let result = template.render_captured_to(values, &mut sink);
    let written = sink.0.len()?;
    match (result, misuse.first()) {
        (Ok(_), None) => Ok(written),
        (Ok(_), Some(reason)) => Err(failed(None, reason)),
        (Err(error), misuse) => {
            let line = line(&error);
            let reason = misuse.unwrap_or_else(|| reason(&error, &reads, secrets));
            Err(failed(line, reason))
        }
    }
}

/// The engine without anything of its own but the language.
fn environment(misuse: &Misuse) -> Result<Environment<'static>, Error> {
    let mut env = Environment::empty();
    env.set_syntax(syntax()?);
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_recursion_limit(MAX_DEPTH);
    env.set_fuel(Some(MAX_STEPS));
    let misuse = misuse.clone();
    env.set_formatter(move |out, state, value| {
        minijinja::escape_formatter(out, state, value)?;
        match misuse.first() {
            // The reason is taken from `misuse`; this brings the line.
            Some(_) => Err(ErrorKind::InvalidOperation.into()),
            None => Ok(()),
        }
    });
    env.add_test("defined", |value: &Value| !value.is_undefined());
    env.add_test("undefined", Value::is_undefined);
    filters::add_to(&mut env);
    Ok(env)
}

fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build()
}

/// An error of the engine before there is any value: its words can be shown.
fn misspelt(error: &Error) -> TemplateError {
    TemplateError {
        line: error.line(),
        reason: error
            .detail()
            .map_or_else(|| error.kind().to_string(), str::to_owned),
    }
}

/// What went wrong with values, without the engine's own words: they quote values.
fn reason(error: &Error, reads: &Reads, secrets: &[(&SecretName, Fields<'_>)]) -> String {
    if let Some(refusal) = chain(error).find_map(|cause| cause.downcast_ref::<Refusal>()) {
        return refusal.to_string();
    }
    let kind = root(error).kind();
    match kind {
        ErrorKind::UndefinedError => missing(line(error), reads, secrets),
        ErrorKind::OutOfFuel => {
            format!("it takes more than {MAX_STEPS} steps; let it loop over less")
        }
        ErrorKind::UnknownMethod => "values have no methods; use a filter".to_owned(),
        ErrorKind::InvalidOperation => {
            "invalid operation: an operator, filter or loop got what it cannot work on".to_owned()
        }
        // A description of the kind alone.
        kind => kind.to_string(),
    }
}

/// Names what the line reads and is not there. All names come from the template's own text.
fn missing(line: Option<usize>, reads: &Reads, secrets: &[(&SecretName, Fields<'_>)]) -> String {
    let on_line = reads
        .accesses
        .iter()
        .filter(|access| line.is_none_or(|line| access.lines.contains(&line)));
    for access in on_line {
        let secret = &access.secret;
        let Some((_, fields)) = secrets.iter().find(|(name, _)| name.as_str() == secret) else {
            return format!("there is no secret `{secret}` for it; bind it, or mend the name");
        };
        match &access.field {
            Some(field) if !fields.names().any(|name| name == field) => {
                return format!("secret `{secret}` has no field `{field}`");
            }
            _ => {}
        }
    }
    "it reads a name, secret or field that is not there".to_owned()
}

fn line(error: &Error) -> Option<usize> {
    let causes = chain(error).filter_map(|cause| cause.downcast_ref::<Error>());
    error
        .line()
        .or_else(|| causes.filter_map(Error::line).next())
}

fn root(error: &Error) -> &Error {
    let causes = chain(error).filter_map(|cause| cause.downcast_ref::<Error>());
    causes.last().unwrap_or(error)
}

fn chain(error: &Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| (**cause).source())
}

/// The file as it grows. What does not fit ends the rendering.
struct Sink<'a>(Room<'a>);

impl io::Write for &mut Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.put(bytes);
        match self.0.len() {
            Ok(_) => Ok(bytes.len()),
            Err(_) => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The largest file that a template may become, in bytes.
pub(crate) const MAX_RENDERED: usize = 1024 * 1024;
/// The largest text of a template, in bytes.
pub(crate) const MAX_TEMPLATE: usize = 64 * 1024;
/// The engine's instructions: a template without loops never takes so many.
const MAX_STEPS: u64 = 100_000;
/// Loops and blocks inside each other.
const MAX_DEPTH: usize = 64;
