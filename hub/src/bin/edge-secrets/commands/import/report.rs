//! What an import did or would do: for programs as it is, for people as text.

use serde::Serialize;

use super::differences::Difference;
use super::recognise::Kind;
use super::understand::{Left, Refusal};
use crate::output::{Table, count};

/// Everything there is to say.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Report {
    /// Nothing was changed: it was only asked.
    pub(super) dry_run: bool,
    /// What was understood, in the order in which it is published.
    pub(super) documents: Vec<Entry>,
    /// What is not for the hub.
    pub(super) left: Vec<Left>,
    /// What should be a document and is none, or cannot be published.
    pub(super) refused: Vec<Refusal>,
}

/// A document for the hub.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Entry {
    pub(super) file: String,
    /// Its key, in a listing of the Exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    pub(super) kind: Kind,
    /// What the hub calls it.
    pub(super) name: String,
    /// Against what the hub has.
    pub(super) state: State,
    /// Whether the hub has it now.
    pub(super) published: bool,
    /// Something speaks against it: see what is refused.
    #[serde(skip)]
    pub(super) is_refused: bool,
    /// How many nodes it changes, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nodes: Option<usize>,
    /// What has no effect here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) differs: Vec<Difference>,
    /// What is odd, but allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// A document against what the hub has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    New,
    Changed,
    Unchanged,
}

impl Report {
    /// How many documents the hub got.
    pub(super) fn published(&self) -> usize {
        let new = |entry: &&Entry| entry.published && entry.state != State::Unchanged;
        self.documents.iter().filter(new).count()
    }

    /// As text.
    pub(super) fn render(&self) -> String {
        let mut text = self.summary();
        if !self.documents.is_empty() {
            let mut table = Table::new(["DOCUMENT", "NAME", "", "NODES", "FILE"]);
            for entry in &self.documents {
                table.row([
                    entry.kind.as_str().to_owned(),
                    entry.name.clone(),
                    self.verb(entry).to_owned(),
                    entry
                        .nodes
                        .map(|nodes| nodes.to_string())
                        .unwrap_or_default(),
                    entry.place(),
                ]);
            }
            text.push_str(&format!("\n{}", table.render()));
        }
        self.render_differences(&mut text);
        let warned = self
            .documents
            .iter()
            .filter(|entry| !entry.warnings.is_empty());
        for entry in warned {
            for warning in &entry.warnings {
                text.push_str(&format!("\nwarning: {}: {warning}\n", entry.place()));
            }
        }
        if !self.left.is_empty() {
            text.push_str("\nLeft:\n");
            for left in &self.left {
                let kind = left.kind.map(|kind| format!("{}: ", kind.as_str()));
                let kind = kind.unwrap_or_default();
                text.push_str(&format!("  {}: {kind}{}\n", left.file, left.reason));
            }
        }
        if !self.refused.is_empty() {
            text.push_str("\nRefused:\n");
            for refusal in &self.refused {
                text.push_str(&format!("  {refusal}\n"));
            }
        }
        text
    }

    fn summary(&self) -> String {
        let of = |state: State| {
            self.documents
                .iter()
                .filter(|entry| entry.state == state)
                .count()
        };
        let (new, changed, same) = (of(State::New), of(State::Changed), of(State::Unchanged));
        let understood = format!(
            "{} understood: {new} new, {changed} changed, {same} unchanged",
            count(self.documents.len(), "document")
        );
        let refused = match self.refused.len() {
            0 => String::new(),
            refused => format!("; {refused} refused"),
        };
        let done = match (self.dry_run, self.published()) {
            (true, _) => "Dry run: nothing has changed. ".to_owned(),
            (false, 0) => "Nothing was published. ".to_owned(),
            (false, published) => format!("{} published. ", count(published, "document")),
        };
        format!(
            "{done}{understood}{refused}; {} left.\n",
            count(self.left.len(), "file")
        )
    }

    fn verb(&self, entry: &Entry) -> &'static str {
        match (entry.state, entry.published, self.dry_run) {
            (State::Unchanged, ..) => "unchanged",
            _ if entry.is_refused => "refused",
            (State::New, true, _) => "published",
            (State::Changed, true, _) => "replaced",
            (State::New, false, true) => "would be published",
            (State::Changed, false, true) => "would be replaced",
            (_, false, false) => "not published",
        }
    }

    /// Each reason once, with the files that it is true of: a fleet's documents are alike.
    fn render_differences(&self, text: &mut String) {
        let mut reasons: Vec<(&str, &str, Vec<String>)> = Vec::new();
        for entry in &self.documents {
            for difference in &entry.differs {
                let field = generic(&difference.field);
                let known = reasons
                    .iter_mut()
                    .find(|(known, reason, _)| *known == field && *reason == difference.reason);
                match known {
                    Some((.., files)) => files.push(entry.place()),
                    None => reasons.push((field, &difference.reason, vec![entry.place()])),
                }
            }
        }
        if reasons.is_empty() {
            return;
        }
        text.push_str("\nDiffers:\n");
        for (field, reason, files) in reasons {
            let files = match files.as_slice() {
                [one] => one.clone(),
                [first, rest @ ..] => format!("{first} and {} more", rest.len()),
                [] => continue,
            };
            text.push_str(&format!("  {field} ({files}): {reason}\n"));
        }
    }
}

/// The last part of a field's place: what it is called.
fn generic(field: &str) -> &str {
    field.rsplit_once('.').map_or(field, |(_, name)| name)
}

impl Entry {
    fn place(&self) -> String {
        match &self.key {
            Some(key) => format!("{} [{key}]", self.file),
            None => self.file.clone(),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        write!(f, ": {}", self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, state: State, published: bool) -> Entry {
        Entry {
            file: format!("{name}.json"),
            key: None,
            kind: Kind::Policy,
            name: name.to_owned(),
            state,
            published,
            is_refused: false,
            nodes: Some(2),
            differs: vec![Difference {
                field: "service.nodeHealth".to_owned(),
                more: 0,
                reason: "it has none".to_owned(),
            }],
            warnings: Vec::new(),
        }
    }

    #[test]
    fn people_read_what_happened_what_differs_and_what_is_left() {
        let report = Report {
            dry_run: false,
            documents: vec![
                entry("a", State::New, true),
                entry("b", State::Unchanged, true),
            ],
            left: vec![Left {
                file: "userinput.json".to_owned(),
                kind: Some(Kind::UserInput),
                reason: "is left".to_owned(),
            }],
            refused: vec![Refusal {
                file: "c.json".to_owned(),
                line: Some(3),
                column: Some(7),
                reason: "is wrong".to_owned(),
            }],
        };
        assert_eq!(
            report.render(),
            "1 document published. 2 documents understood: 1 new, 0 changed, 1 unchanged; 1 refused; 1 file left.\n\
             \n\
             DOCUMENT           NAME             NODES  FILE\n\
             deployment policy  a     published  2      a.json\n\
             deployment policy  b     unchanged  2      b.json\n\
             \n\
             Differs:\n\
             \x20 nodeHealth (a.json and 1 more): it has none\n\
             \n\
             Left:\n\
             \x20 userinput.json: user input: is left\n\
             \n\
             Refused:\n\
             \x20 c.json:3:7: is wrong\n"
        );
    }

    #[test]
    fn a_dry_run_says_first_that_nothing_changed() {
        let report = Report {
            dry_run: true,
            documents: vec![entry("a", State::Changed, false)],
            ..Report::default()
        };
        let text = report.render();
        assert!(
            text.starts_with("Dry run: nothing has changed. 1 document understood"),
            "{text}"
        );
        assert!(text.contains("would be replaced"), "{text}");
    }
}
