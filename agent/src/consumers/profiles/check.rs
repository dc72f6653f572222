//! From a file's text to its profiles: what may stand beside what, and which line says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edge_secrets_protocol::SecretName;
use serde::Deserialize;

use super::actions::{lifecycle, on_change};
use super::claims::Claims;
use super::locate::{self, Step};
use super::text::{Document, Mode, SystemdText, TemplateText};
use crate::config::{Span, yaml_reason};
use crate::consumers::profile::{Credentials, Profile, SecretShape, Shape, Template};

/// What a file says, once it is right in itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) file: PathBuf,
    pub(super) text: String,
    /// The files that its templates are made of, as they were.
    pub(super) sources: Sources,
    /// Each with the number of its document.
    pub(super) profiles: Vec<(usize, Arc<Profile>)>,
    /// What is doubtful, and in force all the same.
    pub(super) warnings: Vec<Wrong>,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: Option<usize>,
    pub(super) reason: String,
}

/// Template texts by their paths.
pub(super) type Sources = BTreeMap<String, String>;

/// A file that is well formed; what its templates' sources say is not known yet.
#[derive(Debug)]
pub(super) struct Parsed {
    documents: Vec<(usize, Document)>,
}

impl Parsed {
    /// Reads every document. Empty ones are none.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub(super) fn new(text: &str) -> Result<Self, Wrong> {
        let mut documents = Vec::new();
        for (number, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
            if number == MAX_DOCUMENTS {
                return Err(Wrong {
                    line: None,
                    reason: format!("has more than {MAX_DOCUMENTS} documents: split it"),
                });
            }
            let document = Option::<Document>::deserialize(document).map_err(|error| {
                let (line, reason) = yaml_reason(&error);
                Wrong {
                    line,
                    reason: shorten(&reason),
                }
            })?;
            documents.extend(document.map(|document| (number, document)));
        }
        Ok(Self { documents })
    }

    /// The files that templates are made of, relative to the directory of the profiles.
    pub(super) fn sources(&self) -> BTreeSet<String> {
        let templates = self.documents.iter().flat_map(|(_, d)| &d.templates.0);
        let sources = templates.filter_map(|template| template.source.as_ref());
        sources.map(|source| source.0.clone()).collect()
    }

    /// Judges the file. `text` is what it was parsed from, `read` gives a source's text.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub(super) fn check(
        self,
        file: &Path,
        text: &str,
        read: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Checked, Wrong> {
        let mut checked = Checked {
            file: file.to_owned(),
            text: text.to_owned(),
            sources: Sources::new(),
            profiles: Vec::new(),
            warnings: Vec::new(),
        };
        let mut size = 0;
        for (number, document) in self.documents {
            let mut place = Place {
                text,
                document: number,
                warnings: Vec::new(),
            };
            let profile = profile(document, file, &mut place, &mut checked.sources, &read)?;
            let templates = profile.shape.templates.iter();
            size += templates.map(|template| template.text.len()).sum::<usize>();
            if size > MAX_TEMPLATES {
                let reason = "the templates of one file are larger than 1 MiB together: split it";
                return Err(place.wrong(&[Step::Key("templates")], reason));
            }
            checked.profiles.push((number, Arc::new(profile)));
            checked.warnings.append(&mut place.warnings);
        }
        Claims::within(&checked)?;
        Ok(checked)
    }
}

/// Where in a file something is judged.
pub(super) struct Place<'t> {
    text: &'t str,
    document: usize,
    warnings: Vec<Wrong>,
}

impl Place<'_> {
    pub(super) fn wrong(&self, path: &[Step<'_>], reason: impl Into<String>) -> Wrong {
        Wrong {
            line: locate::line(self.text, self.document, path),
            reason: shorten(&reason.into()),
        }
    }

    fn doubtful(&mut self, path: &[Step<'_>], reason: impl Into<String>) {
        let wrong = self.wrong(path, reason);
        self.warnings.push(wrong);
    }

    /// A duration within bounds.
    pub(super) fn span(
        &self,
        path: &[Step<'_>],
        span: Option<Span>,
        default: Duration,
        bounds: (Duration, Duration),
    ) -> Result<Duration, Wrong> {
        let span = span.map_or(default, Span::duration);
        let (least, most) = bounds;
        if span < least || span > most {
            let reason = format!("must be at least {least:?} and at most {}s", most.as_secs());
            return Err(self.wrong(path, reason));
        }
        Ok(span)
    }

    fn mode(&mut self, path: &[Step<'_>], mode: Option<Mode>) -> Option<u32> {
        let Mode(mode) = mode?;
        if mode & 0o007 != 0 {
            self.doubtful(
                path,
                format!(
                    "mode {mode:04o} opens a secret to every user of the node: \
                     give it to the service's own user or group"
                ),
            );
        }
        Some(mode)
    }
}

fn profile(
    document: Document,
    file: &Path,
    place: &mut Place<'_>,
    sources: &mut Sources,
    read: &impl Fn(&str) -> Result<String, String>,
) -> Result<Profile, Wrong> {
    if !document.files {
        let given = [
            ("owner", document.owner.is_some()),
            ("group", document.group.is_some()),
            ("mode", document.mode.is_some()),
        ];
        for (key, _) in given.iter().filter(|(_, given)| *given) {
            let reason = format!("`{key}` has no effect with `files: false`: drop one of the two");
            place.doubtful(&[Step::Key(key)], reason);
        }
        if document.systemd.is_none() {
            let reason = "with `files: false` and without `systemd` nobody can read these secrets";
            place.doubtful(&[Step::Key("files")], reason);
        }
    }
    if document.secrets_api == Some(true) && !document.files {
        let reason = "a service that may not look at files may not ask for secrets either: drop \
                      `secrets_api` or `files: false`";
        return Err(place.wrong(&[Step::Key("secrets_api")], reason));
    }
    let mode = place.mode(&[Step::Key("mode")], document.mode);
    let mut secrets = BTreeMap::new();
    for (name, secret) in document.secrets.0 {
        let path = [
            Step::Key("secrets"),
            Step::Key(name.as_str()),
            Step::Key("mode"),
        ];
        let mode = place.mode(&path, secret.mode);
        let format = secret.format;
        secrets.insert(name, SecretShape { format, mode });
    }
    let mut templates: Vec<Template> = Vec::new();
    for (at, written) in document.templates.0.into_iter().enumerate() {
        let clash = if secrets.contains_key(&written.name) {
            Some("is the name of a secret in `secrets`")
        } else if templates.iter().any(|other| other.name == written.name) {
            Some("is the name of another template")
        } else {
            None
        };
        if let Some(clash) = clash {
            let path = [Step::Key("templates"), Step::Item(at), Step::Key("name")];
            return Err(place.wrong(&path, format!("`{}` {clash}", written.name)));
        }
        templates.push(template(written, at, place, sources, read)?);
    }
    let on_change = match document.on_change {
        Some(written) => on_change(written, place)?,
        None => None,
    };
    let lifecycle = document
        .lifecycle
        .map(|written| lifecycle(written, place))
        .transpose()?;
    let credentials = document
        .systemd
        .map(|written| credentials(written, place))
        .transpose()?;
    Ok(Profile {
        service: document.service,
        consumer: document.consumer,
        file: file.to_owned(),
        shape: Shape {
            owner: document.owner.map(|account| account.0),
            group: document.group.map(|account| account.0),
            mode,
            format: document.format,
            secrets,
            templates,
            private: !document.files,
        },
        on_change,
        lifecycle,
        credentials,
        secrets_api: document.secrets_api,
    })
}

fn template(
    written: TemplateText,
    at: usize,
    place: &mut Place<'_>,
    sources: &mut Sources,
    read: &impl Fn(&str) -> Result<String, String>,
) -> Result<Template, Wrong> {
    let key = |key| [Step::Key("templates"), Step::Item(at), Step::Key(key)];
    let mode = place.mode(&key("mode"), written.mode);
    let (text, source) = match (written.text, written.source) {
        (Some(text), None) => (text, None),
        (None, Some(source)) => {
            let text = read(&source.0)
                .map_err(|reason| place.wrong(&key("source"), format!("{} {reason}", source.0)))?;
            sources.insert(source.0.clone(), text.clone());
            (text, Some(source.0))
        }
        _ => {
            let path = [Step::Key("templates"), Step::Item(at)];
            return Err(place.wrong(&path, "a template has either `text` or `source`"));
        }
    };
    if text.len() as u64 > MAX_TEMPLATE {
        let reason = format!("is larger than {} KiB", MAX_TEMPLATE / 1024);
        return Err(place.wrong(&key("text"), reason));
    }
    let reads = check_template(&text).map_err(|(line, reason)| match &source {
        Some(source) => {
            let at = line.map(|line| format!(":{line}")).unwrap_or_default();
            place.wrong(&key("source"), format!("{source}{at}: {reason}"))
        }
        None => {
            let mut wrong = place.wrong(&key("text"), reason);
            wrong.line = wrong.line.map(|key| template_line(place.text, key, line));
            wrong
        }
    })?;
    Ok(Template {
        name: written.name,
        text,
        reads,
        mode,
    })
}

fn credentials(written: SystemdText, place: &Place<'_>) -> Result<Credentials, Wrong> {
    let units: Vec<_> = written.units.0.into_iter().map(|unit| unit.0).collect();
    if units.is_empty() {
        let path = [Step::Key("systemd"), Step::Key("units")];
        return Err(place.wrong(&path, "names no unit: write one, or drop `systemd`"));
    }
    for (at, unit) in units.iter().enumerate() {
        if !unit.as_str().ends_with(".service") {
            let path = [Step::Key("systemd"), Step::Key("units"), Step::Item(at)];
            return Err(place.wrong(&path, format!("{unit} is not a service (*.service)")));
        }
    }
    for (id, file) in &written.credentials.0 {
        if file.0.is_hidden() {
            let id = Step::Key(id.as_str());
            let path = [Step::Key("systemd"), Step::Key("credentials"), id];
            return Err(place.wrong(&path, format!("{} is not for units", file.0)));
        }
    }
    let path = [Step::Key("systemd"), Step::Key("wait")];
    let ids = written.credentials.0.into_iter();
    let ids = ids.map(|(id, file)| (id, file.0));
    Ok(Credentials {
        units,
        ids: ids.collect(),
        wait: place.span(&path, written.wait, DEFAULT_WAIT, (Duration::ZERO, HOUR))?,
    })
}

/// Compiles a template; says which secrets it reads, or on which of its lines it is wrong and why.
fn check_template(text: &str) -> Result<Option<BTreeSet<SecretName>>, (Option<usize>, String)> {
    crate::delivery::check(text).map_err(|error| (error.line, error.reason))
}

/// The line in the file of a line in a template that is written in it: exact in a literal block (`|`),
/// else that of the key.
fn template_line(text: &str, key: usize, line: Option<usize>) -> usize {
    let header = text.lines().nth(key.saturating_sub(1)).unwrap_or("");
    let header = header.split(" #").next().unwrap_or("").trim_end();
    let block = header
        .trim_end_matches(|c: char| c.is_ascii_digit() || c == '+' || c == '-')
        .ends_with('|');
    match line {
        Some(line) if block => key + line,
        _ => key,
    }
}

/// Shortens what is quoted: what somebody pasted into the wrong place does not belong in a log.
pub(super) fn shorten(reason: &str) -> String {
    let mut short = String::new();
    let mut quote: Option<(char, usize)> = None;
    let mut escaped = false;
    for c in reason.chars() {
        let c = if c.is_control() { ' ' } else { c };
        match &mut quote {
            None if matches!(c, '"' | '`') => quote = Some((c, 0)),
            None => {}
            Some((mark, _)) if c == *mark && !escaped => quote = None,
            Some((_, shown)) => {
                escaped = c == '\\' && !escaped;
                *shown += 1;
                if *shown == MAX_QUOTED {
                    short.push('…');
                }
                if *shown >= MAX_QUOTED {
                    continue;
                }
            }
        }
        if short.len() >= MAX_REASON {
            short.push('…');
            break;
        }
        short.push(c);
    }
    short
}

/// The largest template, in bytes.
pub(super) const MAX_TEMPLATE: u64 = 64 * 1024;
/// All templates of a file, in bytes.
const MAX_TEMPLATES: usize = 1024 * 1024;
const MAX_DOCUMENTS: usize = 64;
const DEFAULT_WAIT: Duration = Duration::from_secs(80);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
const MAX_QUOTED: usize = 60;
const MAX_REASON: usize = 500;

#[cfg(test)]
mod tests;
