//! How a secret's file looks: from the payload in the locked buffer to the file's bytes in the same
//! buffer, without a copy elsewhere.

mod env;
mod json;

use edge_secrets_protocol::binding::Format;
use edge_secrets_protocol::{Fields, SecretName};

pub(crate) use self::json::secret_object;
pub(super) use self::json::string as json_string;
use crate::consumers::names::FileName;

/// Why a file cannot be made of what was set. Names a secret, a field or a line, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RenderError {
    /// The payload is not one.
    #[error("its content is malformed; set it again")]
    Malformed,
    /// `value_only` does not know which field to write.
    #[error(
        "it has several fields and none is called `value`, so `format: value_only` does not know \
         which to write; set it with one field, or choose another format"
    )]
    Ambiguous,
    /// JSON holds text alone.
    #[error(
        "its field `{0}` is not UTF-8 text, and JSON holds text alone; \
         use `format: value_only` or `format: fields` for binary content"
    )]
    NotText(String),
    /// A field's name is no variable's name.
    #[error(
        "its field `{0}` cannot be a variable, whose name has letters, digits and `_` and starts \
         with no digit; rename the field, or use `format: fields` or a template"
    )]
    NotAVariable(String),
    /// An environment holds text alone, and no NUL.
    #[error(
        "its field `{0}` is not UTF-8 text or has a NUL, which no environment can hold; \
         use `format: fields`, or a template that writes it with `b64encode`"
    )]
    NotForEnvironment(String),
    /// The file is larger than the room that was given.
    #[error("the file would be larger than {0} bytes")]
    NoRoom(usize),
    /// A template cannot be rendered.
    #[error("template {name}{}: {reason}", at(*line))]
    Template {
        /// What the file is called.
        name: SecretName,
        /// Where in the template, counted from 1, as far as it is known.
        line: Option<usize>,
        /// What is wrong, and what to do.
        reason: String,
    },
}

/// Takes one file: its name, and its content.
pub(crate) type Write<'a, E> = dyn FnMut(&FileName, &[u8]) -> Result<(), E> + 'a;

/// Makes the files of the secret `name` in `format` and hands each to `write`: one called like the
/// secret, or with [`Format::Fields`] one per field below it, whose content is a part of `payload`
/// itself. The others are built in `out`, for which [`bound`] is always enough.
///
/// # Errors
/// When the payload does not fit the format, or the file does not fit `out`; then nothing was written.
/// What `write` fails with ends it and is passed on; files already written stay.
pub(crate) fn render<E: From<RenderError>>(
    name: &SecretName,
    payload: &[u8],
    format: Format,
    out: &mut [u8],
    write: &mut Write<'_, E>,
) -> Result<(), E> {
    let fields = Fields::decode(payload).map_err(|_| RenderError::Malformed)?;
    let built = match format {
        Format::ValueOnly => {
            let value = fields.expose_value().ok_or(RenderError::Ambiguous)?;
            return write(&name.into(), value);
        }
        Format::Fields => {
            return fields.expose().try_for_each(|(field, value)| {
                let file = format!("{name}/{field}").parse();
                write(&file.map_err(|_| RenderError::Malformed)?, value)
            });
        }
        Format::Json => json::object(&fields, out)?,
        Format::Env => env::lines(&fields, out)?,
    };
    let content = out.get(..built).ok_or(RenderError::NoRoom(out.len()))?;
    write(&name.into(), content)
}

/// The largest file that a payload of `len` bytes can become without a template: every byte as
/// `\u00XX`.
pub(crate) fn bound(len: usize) -> usize {
    len.saturating_mul(6).saturating_add(16)
}

/// Bytes that are filled from the start. Counts on past the end and writes nothing there.
pub(super) struct Room<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Room<'a> {
    pub(super) fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        let end = self.at.saturating_add(bytes.len());
        if let Some(room) = self.out.get_mut(self.at..end) {
            room.copy_from_slice(bytes);
        }
        self.at = end;
    }

    /// How many bytes were put.
    ///
    /// # Errors
    /// When there was no room for all of them.
    pub(super) fn len(&self) -> Result<usize, RenderError> {
        if self.at > self.out.len() {
            return Err(RenderError::NoRoom(self.out.len()));
        }
        Ok(self.at)
    }
}

fn at(line: Option<usize>) -> String {
    line.map(|line| format!(", line {line}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
