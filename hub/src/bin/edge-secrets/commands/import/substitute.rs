//! `hzn`'s preparation of a file: comments go, then variables are replaced, once. Every place in the
//! result is found again in the file.

/// The value of a variable, where it has one.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A text that was prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prepared {
    /// What is left to be read.
    pub(super) text: String,
    /// Variables that have no value, in the order in which they stand.
    pub(super) undefined: Vec<Undefined>,
    comments: Trail,
    variables: Trail,
    source: Lines,
}

/// A variable without a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Undefined {
    /// Its name; empty for a `${` that is never closed or names nothing.
    pub(super) name: String,
    /// Where it stands in the file, counted from 1.
    pub(super) line: usize,
    /// In bytes, counted from 1.
    pub(super) column: usize,
}

/// The text would become larger than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

impl Prepared {
    /// Prepares a file's text. `comments` says whether `/* … */` is one, as it is in `hzn`'s JSON;
    /// without `lookup` variables stay as they are. A variable that it does not know becomes nothing.
    ///
    /// # Errors
    /// When the result would be larger than `most` bytes.
    pub(super) fn new(
        source: &str,
        comments: bool,
        lookup: Option<Lookup<'_>>,
        most: usize,
    ) -> Result<Self, TooLarge> {
        let bare = match comments {
            true => without_comments(source),
            false => Edited::verbatim(source),
        };
        let (edited, undefined) = match lookup {
            Some(lookup) => expanded(&bare.text, lookup, most)?,
            None => (Edited::verbatim(&bare.text), Vec::new()),
        };
        let mut prepared = Self {
            text: edited.text,
            undefined: Vec::new(),
            comments: bare.trail,
            variables: edited.trail,
            source: Lines::new(source),
        };
        for (name, at) in undefined {
            let (line, column) = prepared.source.place(prepared.comments.source(at));
            prepared.undefined.push(Undefined { name, line, column });
        }
        Ok(prepared)
    }

    /// Where in the file stands what is at this line and column (in bytes) of the result.
    pub(super) fn place(&self, line: usize, column: usize) -> (usize, usize) {
        let at = Lines::new(&self.text).offset(line, column);
        let at = self.comments.source(self.variables.source(at));
        self.source.place(at)
    }
}

/// A text and where it came from.
struct Edited {
    text: String,
    trail: Trail,
}

impl Edited {
    fn verbatim(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            trail: Trail::default(),
        }
    }

    fn copy(&mut self, text: &str, source: usize) {
        self.trail.0.push(Piece {
            at: self.text.len(),
            source,
            copied: true,
        });
        self.text.push_str(text);
    }

    fn put(&mut self, text: &str, source: usize) {
        self.trail.0.push(Piece {
            at: self.text.len(),
            source,
            copied: false,
        });
        self.text.push_str(text);
    }
}

/// The pieces of an edited text, in their order; none where nothing was edited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Trail(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    at: usize,
    source: usize,
    /// Byte by byte; otherwise all of it came from one place.
    copied: bool,
}

impl Trail {
    fn source(&self, at: usize) -> usize {
        let after = self.0.partition_point(|piece| piece.at <= at);
        match after.checked_sub(1).and_then(|last| self.0.get(last)) {
            Some(piece) if piece.copied => piece.source + (at - piece.at),
            Some(piece) => piece.source,
            None => at,
        }
    }
}

/// Where the lines of a text begin and how long it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lines {
    starts: Vec<usize>,
    len: usize,
}

impl Lines {
    fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            starts: std::iter::once(0)
                .chain(ends.map(|(at, _)| at + 1))
                .collect(),
            len: text.len(),
        }
    }

    /// The offset of a line and column, each counted from 1; of the nearest place that exists.
    fn offset(&self, line: usize, column: usize) -> usize {
        let start = self.starts.get(line.saturating_sub(1)).copied();
        let start = start.unwrap_or(self.len);
        let end = self.starts.get(line).copied().unwrap_or(self.len);
        (start + column.saturating_sub(1)).min(end)
    }

    fn place(&self, at: usize) -> (usize, usize) {
        let line = self
            .starts
            .partition_point(|start| *start <= at.min(self.len));
        let start = self.starts.get(line.saturating_sub(1)).copied();
        (line.max(1), at - start.unwrap_or_default().min(at) + 1)
    }
}

/// Without what stands between `/*` and the next `*/`, in strings as well, as `hzn` has it.
fn without_comments(source: &str) -> Edited {
    let mut bare = Edited {
        text: String::with_capacity(source.len()),
        trail: Trail::default(),
    };
    let (mut rest, mut at) = (source, 0);
    while let Some(open) = rest.find("/*") {
        let (before, from) = rest.split_at(open);
        let Some(close) = from.get(2..).and_then(|inside| inside.find("*/")) else {
            break;
        };
        bare.copy(before, at);
        let end = close + 4;
        at += open + end;
        rest = from.get(end..).unwrap_or_default();
    }
    bare.copy(rest, at);
    bare
}

/// With every `$NAME` and `${NAME}` replaced, and those that have no value, with their offsets. What
/// is put in is not looked at again.
fn expanded(
    text: &str,
    lookup: Lookup<'_>,
    most: usize,
) -> Result<(Edited, Vec<(String, usize)>), TooLarge> {
    let mut edited = Edited {
        text: String::with_capacity(text.len()),
        trail: Trail::default(),
    };
    let mut undefined = Vec::new();
    let (mut rest, mut at) = (text, 0);
    while let Some(dollar) = rest.find('$') {
        let (before, from) = rest.split_at(dollar);
        edited.copy(before, at);
        at += dollar;
        let behind = from.get(1..).unwrap_or_default();
        let taken = match name(behind) {
            Named::Nothing => {
                edited.copy("$", at);
                0
            }
            Named::Broken(taken) => {
                undefined.push((String::new(), at));
                taken
            }
            Named::Variable(name, taken) => {
                match lookup(name) {
                    Some(value) => edited.put(&value, at),
                    None => undefined.push((name.to_owned(), at)),
                }
                taken
            }
        };
        if edited.text.len() > most {
            return Err(TooLarge);
        }
        at += 1 + taken;
        rest = behind.get(taken..).unwrap_or_default();
    }
    edited.copy(rest, at);
    match edited.text.len() > most {
        true => Err(TooLarge),
        false => Ok((edited, undefined)),
    }
}

/// What stands behind a `$`, and how many bytes of it belong to it.
enum Named<'a> {
    /// No name: the `$` is a `$`.
    Nothing,
    /// `${` without an end, or `${}`.
    Broken(usize),
    Variable(&'a str, usize),
}

/// The rules of a shell, as far as `hzn` has them: a name is letters, digits and `_`, or one digit or
/// one of `*#$@!?-`, or whatever stands in braces.
fn name(behind: &str) -> Named<'_> {
    if let Some(inside) = behind.strip_prefix('{') {
        return match inside.find('}') {
            Some(0) => Named::Broken(2),
            Some(end) => Named::Variable(inside.get(..end).unwrap_or_default(), end + 2),
            None => Named::Broken(1),
        };
    }
    let Some(first) = behind.chars().next() else {
        return Named::Nothing;
    };
    if first.is_ascii_digit() || SPECIAL.contains(first) {
        return Named::Variable(behind.get(..1).unwrap_or_default(), 1);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match behind.find(|c| !plain(c)).unwrap_or(behind.len()) {
        0 => Named::Nothing,
        end => Named::Variable(behind.get(..end).unwrap_or_default(), end),
    }
}

const SPECIAL: &str = "*#$@!?-";

#[cfg(test)]
mod tests;
