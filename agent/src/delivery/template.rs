//! Files that are made of several secrets.

use edge_secrets_protocol::{Fields, SecretName};

use super::render::RenderError;

/// Renders.
pub(crate) fn render_template(
    text: &str,
    name: &SecretName,
    secrets: &[(&SecretName, Fields<'_>)],
    out: &mut [u8],
) -> Result<usize, RenderError> {
    let _ = (text, name, secrets, out);
    Err(RenderError::Malformed)
}

pub(crate) const MAX_RENDERED: usize = 1024 * 1024;
