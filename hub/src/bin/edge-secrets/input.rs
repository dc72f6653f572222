//! Reading values and documents from files and standard input, within bounds.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use edge_secrets_protocol::Secret;
use edge_secrets_protocol::limits::{MAX_ADMIN_REQUEST, MAX_SECRET_BYTES};

use crate::error::Error;
use crate::output::Ui;

/// A file, or `-` for standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file by its path.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl From<&str> for Source {
    fn from(text: &str) -> Self {
        match text {
            "-" => Self::Stdin,
            path => Self::File(path.into()),
        }
    }
}

/// Reads a value: the bytes as they are, into one buffer of their size.
///
/// # Errors
/// When they cannot be read or are too many. Names `option` and never the file: who mistakes the
/// option for one that takes the value would find it in the message.
pub(crate) fn read_value(source: &Source, option: &str, ui: &mut Ui) -> Result<Secret, Error> {
    let read = match source {
        Source::Stdin => read_stream(ui.input()),
        Source::File(path) => read_file(path),
    };
    match read {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(Error::Usage(format!(
            "the value of {option} is larger than a secret can be ({MAX_SECRET_BYTES} bytes)"
        ))),
        Err(error) => Err(Error::Usage(format!(
            "cannot read the file named by {option}: {}",
            reason(&error)
        ))),
    }
}

/// A document on its way to the hub.
pub(crate) struct Document {
    /// What to call it in messages.
    pub(crate) name: String,
    /// The media type to send it as.
    pub(crate) media_type: &'static str,
    /// The document.
    pub(crate) body: Bytes,
}

/// Reads a document: JSON or YAML by the file's name, else by how it begins.
///
/// # Errors
/// When it cannot be read, is too large or empty.
pub(crate) fn read_document(source: &Source, ui: &mut Ui) -> Result<Document, Error> {
    let (name, read) = match source {
        Source::Stdin => ("standard input".to_owned(), read_bounded(ui.input())),
        Source::File(path) => {
            let read = File::open(path).and_then(|mut file| read_bounded(&mut file));
            (path.display().to_string(), read)
        }
    };
    let body = read.map_err(|error| Error::Usage(format!("{name}: {}", reason(&error))))?;
    if body.len() > MAX_ADMIN_REQUEST {
        return Err(Error::Usage(format!(
            "{name}: is larger than a document can be ({MAX_ADMIN_REQUEST} bytes)"
        )));
    }
    let Some(first) = body.iter().find(|byte| !byte.is_ascii_whitespace()) else {
        return Err(Error::Usage(format!("{name}: is empty")));
    };
    let extension = match source {
        Source::File(path) => path.extension().and_then(|e| e.to_str()),
        Source::Stdin => None,
    };
    let media_type = match extension {
        Some("json") => JSON,
        Some("yaml" | "yml") => YAML,
        _ if *first == b'{' => JSON,
        _ => YAML,
    };
    Ok(Document {
        name,
        media_type,
        body: body.into(),
    })
}

/// `None` when it is too large.
fn read_file(path: &Path) -> io::Result<Option<Secret>> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        // Pipes and devices do not know their size.
        return read_stream(&mut file);
    }
    let Some(len) = usize::try_from(meta.len())
        .ok()
        .filter(|len| *len <= MAX_SECRET_BYTES)
    else {
        return Ok(None);
    };
    let mut value = Secret::zeroed(len);
    file.read_exact(value.expose_mut())?;
    // Files under /proc say that they are empty, and a file may just be growing.
    match fill(&mut file, &mut [0])? {
        0 => Ok(Some(value)),
        _ => read_stream(&mut File::open(path)?),
    }
}

/// `None` when it is too large.
fn read_stream(stream: &mut dyn Read) -> io::Result<Option<Secret>> {
    let mut room = Secret::zeroed(MAX_SECRET_BYTES + 1);
    let len = fill(stream, room.expose_mut())?;
    if len > MAX_SECRET_BYTES {
        return Ok(None);
    }
    let mut value = Secret::zeroed(len);
    value
        .expose_mut()
        .copy_from_slice(room.expose().get(..len).unwrap_or_default());
    Ok(Some(value))
}

/// Reads until the room is full or the stream ends.
fn fill(stream: &mut dyn Read, room: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while let Some(free) = room.get_mut(len..).filter(|free| !free.is_empty()) {
        match stream.read(free) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// One byte more than a document may have, at most.
fn read_bounded(stream: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    stream
        .take(MAX_ADMIN_REQUEST as u64 + 1)
        .read_to_end(&mut body)?;
    Ok(body)
}

/// The system's reason without its number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::TestUi;

    fn value(source: &Source, input: &[u8]) -> Result<Vec<u8>, Error> {
        let mut test = TestUi::new(None, input);
        read_value(source, "--value-file", &mut test.ui).map(|value| value.expose().to_vec())
    }

    #[test]
    fn bytes_come_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("v");
        let bytes = b"\x00\xffpass word\r\n\n";
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(value(&Source::File(file), b"").unwrap(), bytes);
        assert_eq!(value(&Source::Stdin, bytes).unwrap(), bytes);
        assert_eq!(value(&"-".into(), b"").unwrap(), b"");
    }

    #[test]
    fn files_without_a_size_are_read_whole() {
        let read = value(&Source::File("/proc/self/comm".into()), b"").unwrap();
        assert!(read.ends_with(b"\n") && read.len() > 1);
    }

    #[test]
    fn too_much_is_refused_and_never_cut() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("v");
        for (len, fits) in [(MAX_SECRET_BYTES, true), (MAX_SECRET_BYTES + 1, false)] {
            let bytes = vec![7; len];
            std::fs::write(&file, &bytes).unwrap();
            for read in [
                value(&Source::File(file.clone()), b""),
                value(&Source::Stdin, &bytes),
            ] {
                assert_eq!(read.is_ok_and(|read| read == bytes), fits);
            }
        }
    }

    #[test]
    fn a_value_given_in_place_of_a_file_is_not_repeated() {
        let error = value(&"canary-hunter2".into(), b"").unwrap_err();
        assert_eq!(error.exit_code(), 64);
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(error.to_string().contains("no such file"), "{error}");
    }

    #[test]
    fn documents_are_json_or_yaml_by_name_or_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str| {
            let file = dir.path().join(name);
            std::fs::write(&file, text).unwrap();
            read_document(&Source::File(file), &mut TestUi::new(None, b"").ui)
        };
        for (name, text, media_type) in [
            ("a.json", "{}", JSON),
            ("a.yaml", "{}", YAML),
            ("a", " \n{}", JSON),
            ("a", "a: 1", YAML),
        ] {
            assert_eq!(read(name, text).unwrap().media_type, media_type);
        }
        for text in ["", " \n"] {
            assert_eq!(read("a", text).err().unwrap().exit_code(), 64);
        }
        let large = " ".repeat(MAX_ADMIN_REQUEST + 1);
        assert!(
            read("a", &large)
                .err()
                .unwrap()
                .to_string()
                .contains("larger")
        );
        let from_stdin = read_document(&Source::Stdin, &mut TestUi::new(None, b"{}").ui);
        assert_eq!(from_stdin.unwrap().name, "standard input");
    }
}
