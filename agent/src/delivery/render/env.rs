//! Every field as one variable, read alike by systemd's `EnvironmentFile=` and a POSIX shell's `.`.
//!
//! Both take what stands between double quotes as it is, line breaks too, but for a backslash before
//! `"`, `\`, `$` and a backtick, which stands for the second character alone (systemd.exec(5);
//! POSIX.1-2024 XCU §2.2.3). A value of safe characters alone stands without quotes, so that Docker's
//! and podman's `--env-file`, which knows none, reads the same.
//!
//! Not promised: that `execve(2)` takes the variable. Linux refuses one of more than 128 KiB.

use edge_secrets_protocol::Fields;

use super::{RenderError, Room};

/// Builds the lines in `out` and says how long they are together.
pub(super) fn lines(fields: &Fields<'_>, out: &mut [u8]) -> Result<usize, RenderError> {
    let mut room = Room::new(out);
    for (name, value) in fields.expose() {
        if !is_variable(name) {
            return Err(RenderError::NotAVariable(name.to_owned()));
        }
        if value.contains(&0) || std::str::from_utf8(value).is_err() {
            return Err(RenderError::NotForEnvironment(name.to_owned()));
        }
        room.put(name.as_bytes());
        room.put(b"=");
        if value.iter().all(is_safe) {
            room.put(value);
        } else {
            quoted(value, &mut room);
        }
        room.put(b"\n");
    }
    room.len()
}

fn quoted(value: &[u8], room: &mut Room<'_>) {
    room.put(b"\"");
    for part in value.split_inclusive(|byte| ESCAPED.contains(byte)) {
        match part.split_last() {
            Some((last, head)) if ESCAPED.contains(last) => {
                room.put(head);
                room.put(&[b'\\', *last]);
            }
            _ => room.put(part),
        }
    }
    room.put(b"\"");
}

fn is_variable(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_safe(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || SAFE.contains(byte)
}

const ESCAPED: &[u8] = b"\"\\$`";
/// No reader gives any of these a meaning after the `=`: no quote, blank, comment, tilde or pattern.
const SAFE: &[u8] = b"_-./:@%+,=";
