//! What people and programs get to see, and where it is asked whether they mean it.
//!
//! Everything goes through [`Ui`]: it keeps quiet when its reader goes away, lets no control
//! character of foreign text reach a terminal, and holds nothing back in a buffer that outlives it.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use jiff::Timestamp;
use serde::Serialize;

use crate::error::Error;

pub(crate) use edge_secrets_hub::operator::cli::Format;
pub(crate) use table::{Table, count};

mod table;

/// The three standard streams, and how to use them.
pub(crate) struct Ui {
    format: Option<Format>,
    yes: bool,
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    input: Box<dyn Read>,
    out_is_terminal: bool,
    in_is_terminal: bool,
}

impl Ui {
    /// The process's own streams.
    pub(crate) fn process(format: Option<Format>, yes: bool) -> Self {
        Self {
            format,
            yes,
            // Unbuffered: the standard library's buffers are never wiped, and values pass here.
            out: unbuffered(&io::stdout()).unwrap_or_else(|| Box::new(io::stdout())),
            err: Box::new(io::stderr()),
            input: match io::stdin().as_fd().try_clone_to_owned() {
                Ok(fd) => Box::new(File::from(fd)),
                Err(_) => Box::new(io::empty()),
            },
            out_is_terminal: io::stdout().is_terminal(),
            in_is_terminal: io::stdin().is_terminal(),
        }
    }

    /// The format asked for; `None` leaves the choice to the command.
    pub(crate) fn format(&self) -> Option<Format> {
        self.format
    }

    /// Whether results are text for people, not data for programs.
    pub(crate) fn for_people(&self) -> bool {
        matches!(self.format, None | Some(Format::Table))
    }

    /// Whether results go to a terminal.
    pub(crate) fn out_is_terminal(&self) -> bool {
        self.out_is_terminal
    }

    /// Whether a person can be asked.
    pub(crate) fn in_is_terminal(&self) -> bool {
        self.in_is_terminal
    }

    /// Standard input, unbuffered.
    pub(crate) fn input(&mut self) -> &mut dyn Read {
        &mut self.input
    }

    /// Now.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// Shows a result: as `text` for people, as it is for programs.
    pub(crate) fn show<T: Serialize>(
        &mut self,
        value: &T,
        text: impl FnOnce(Timestamp) -> String,
    ) -> Result<(), Error> {
        let shown = match self.format {
            None | Some(Format::Table) => return self.print(&text(self.now())),
            Some(Format::Json) => serde_json::to_string_pretty(value).map_err(unwritable)? + "\n",
            Some(Format::Yaml) => serde_yaml::to_string(value).map_err(unwritable)?,
        };
        self.raw(shown.as_bytes())
    }

    /// Shows a list; an empty one is a remark to people and an empty array to programs.
    pub(crate) fn show_list<T: Serialize>(
        &mut self,
        list: &[T],
        empty: &str,
        text: impl FnOnce(Timestamp) -> String,
    ) -> Result<(), Error> {
        if list.is_empty() && self.for_people() {
            self.note(empty);
            return Ok(());
        }
        self.show(&list, text)
    }

    /// Shows one of many results, each a document of its own: a block of text, a line of JSON, or a
    /// YAML document.
    pub(crate) fn show_next<T: Serialize>(
        &mut self,
        value: &T,
        text: impl FnOnce(Timestamp) -> String,
    ) -> Result<(), Error> {
        match self.format {
            None | Some(Format::Table) => self.print(&text(self.now())),
            Some(Format::Json) => {
                let line = serde_json::to_string(value).map_err(unwritable)? + "\n";
                self.raw(line.as_bytes())
            }
            Some(Format::Yaml) => {
                let document = serde_yaml::to_string(value).map_err(unwritable)?;
                self.raw(format!("---\n{document}").as_bytes())
            }
        }
    }

    /// Prints text for people.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Error> {
        self.raw(tame(text).as_bytes())
    }

    /// Writes bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = self.out.write_all(bytes).and_then(|()| self.out.flush());
        written.map_err(|source| match source.kind() {
            io::ErrorKind::BrokenPipe => Error::Closed,
            _ => Error::Write {
                what: "standard output".to_owned(),
                source,
            },
        })
    }

    /// A remark beside the result, on standard error. Nobody there to read it is no failure.
    pub(crate) fn note(&mut self, text: &str) {
        writeln!(self.err, "{}", tame(text)).ok();
    }

    /// A remark that only a person needs.
    pub(crate) fn hint(&mut self, text: &str) {
        if self.out_is_terminal && self.for_people() {
            self.note(text);
        }
    }

    /// Says what ended the command and what to do about it.
    pub(crate) fn fail(&mut self, error: &Error) {
        if matches!(error, Error::Absent | Error::Closed) {
            return;
        }
        self.note(&format!("error: {error}"));
        if let Some(hint) = error.hint() {
            self.note(&format!("  hint: {hint}"));
        }
    }

    /// Whether [`confirm`](Self::confirm) will ask a person.
    pub(crate) fn will_ask(&self) -> bool {
        !self.yes && self.in_is_terminal
    }

    /// Lets nothing be destroyed unless it is meant: asks on a terminal, and wants `--yes` where
    /// nobody can be asked.
    ///
    /// # Errors
    /// When the answer is not yes, or nobody can give one.
    pub(crate) fn confirm(&mut self, question: &str) -> Result<(), Error> {
        if self.yes {
            return Ok(());
        }
        if !self.in_is_terminal {
            return Err(Error::Usage(format!(
                "{question} Standard input is not a terminal, so nobody can be asked: add --yes"
            )));
        }
        write!(self.err, "{} [y/N] ", tame(question)).ok();
        self.err.flush().ok();
        match self.line().trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Error::Declined),
        }
    }

    /// Asks on standard error, and takes the answer from standard input whether a person is there or a
    /// script answers, as Open Horizon's command does. Everything but `y` is no; `--yes` is yes.
    pub(crate) fn answer(&mut self, question: &str) -> bool {
        if self.yes {
            return true;
        }
        write!(self.err, "{} [y/N]: ", tame(question)).ok();
        self.err.flush().ok();
        self.line().trim().eq_ignore_ascii_case("y")
    }

    /// One short line of input.
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.len() < MAX_ANSWER {
            match self.input.read(&mut byte) {
                Ok(1) if byte != *b"\n" => line.extend_from_slice(&byte),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        String::from_utf8_lossy(&line).into_owned()
    }
}

/// Foreign text made safe for a terminal: control characters other than line ends are spelled out.
pub(crate) fn tame(text: &str) -> String {
    let mut tamed = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            tamed.extend(c.escape_default());
        } else {
            tamed.push(c);
        }
    }
    tamed
}

fn unbuffered(stream: &impl AsFd) -> Option<Box<dyn Write>> {
    let fd = stream.as_fd().try_clone_to_owned().ok()?;
    Some(Box::new(File::from(fd)))
}

/// Cannot happen with the wire types, and says nothing of what could not be written.
fn unwritable<E>(_: E) -> Error {
    Error::Failed("the result cannot be written in this format".to_owned())
}

const MAX_ANSWER: usize = 64;

#[cfg(test)]
pub(crate) use tests::TestUi;

#[cfg(test)]
mod tests;
