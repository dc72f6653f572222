//! A secret as the service is told it: one object with every field, read from the generation that is
//! live, in buffers that are wiped.

use std::io::{self, Read};
use std::path::Path;

use edge_secrets_protocol::SecretName;
use edge_secrets_protocol::limits::MAX_SECRET_BYTES;
use nix::errno::Errno;
use zeroize::Zeroizing;

use crate::consumers::names::FileName;
use crate::delivery::{RenderError, open_delivered, secret_object};

/// Why a secret that is there cannot be told. Says nothing of its value.
#[derive(Debug, thiserror::Error)]
pub(super) enum ValueError {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It cannot be written as JSON.
    #[error("field `{0}` is not UTF-8 text, and JSON holds text alone; read the secret's file")]
    NotText(String),
    /// It is not what was written.
    #[error("its content is malformed")]
    Malformed,
}

/// Reads the secret; none when it is not there. Blocks for as long as a tmpfs does, and the agent does
/// nothing else meanwhile: what is being read here is not being wiped.
pub(super) fn read(
    generation: &Path,
    name: &SecretName,
) -> Result<Option<Zeroizing<Vec<u8>>>, ValueError> {
    let file = match open_delivered(generation, &FileName::hidden(name)) {
        Ok(file) => file,
        Err(Errno::ENOENT | Errno::EWOULDBLOCK) => return Ok(None),
        Err(errno) => return Err(io::Error::from(errno).into()),
    };
    let found = file.metadata()?;
    let len = usize::try_from(found.len()).unwrap_or(usize::MAX);
    if !found.is_file() || len > MAX_SECRET_BYTES {
        return Err(ValueError::Malformed);
    }
    let mut payload = Zeroizing::new(vec![0; len]);
    (&file).read_exact(&mut payload)?;
    match secret_object(&payload) {
        Ok(object) => Ok(Some(object)),
        Err(RenderError::NotText(field)) => Err(ValueError::NotText(field)),
        Err(_) => Err(ValueError::Malformed),
    }
}
